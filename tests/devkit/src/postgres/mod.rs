//! Postgres servers for tests: versions, servers, databases.

mod cluster;
mod database;
mod server;
mod version;

pub(crate) use cluster::{User, user};
pub use database::TestDatabase;
pub use server::Postgres;
pub use version::PgVersion;
