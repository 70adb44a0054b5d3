//! When to look, how often to retry, who leads. No SQL, no YAML.

pub(crate) mod admin_api;
mod context;
pub(crate) mod database;
pub mod leadership;
mod metrics;
pub mod queue;
pub mod reconcile;
pub mod run;
pub(crate) mod watch;
