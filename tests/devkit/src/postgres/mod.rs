//! Postgres servers for tests: servers, databases.

mod cluster;
mod database;
mod server;

pub(crate) use cluster::{User, copy, reachable, user};
pub use database::TestDatabase;
pub use server::Postgres;
