//! Reads and changes the world: Postgres, Kubernetes, the registry, entropy. No decisions.

pub mod database;
pub mod entropy;
pub mod error;
pub mod kubernetes;
pub mod postgres;
pub mod world;
