//! Reads and changes the world: Postgres, Kubernetes, the registry, entropy. No decisions.

pub mod error;
pub mod postgres;
pub mod world;
