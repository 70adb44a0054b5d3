//! Reads and changes the world: Postgres, Kubernetes, the registry, entropy. No decisions.

pub mod entropy;
pub mod error;
pub mod gate;
pub mod instances;
pub mod kubernetes;
pub mod live;
mod live_agent;
mod live_home;
mod live_logins;
mod live_tenant;
pub mod postgres;
pub mod rehearsal;
pub mod turns;
pub mod world;
