//! Kubernetes: what is watched, and every request that the operator makes.

pub mod cache;
pub mod claims;
pub mod client;
pub mod entries;
pub mod error;
pub mod fence;
pub mod instances;
pub mod keys;
pub mod lease;
pub mod objects;
pub mod registry;
pub mod replicas;
pub mod review;
pub mod revisions;
pub mod watch;
