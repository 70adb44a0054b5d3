//! Postgres servers for tests: versions, servers, databases.

mod cluster;
mod database;
mod server;
mod version;

pub use database::TestDatabase;
pub use server::Postgres;
pub use version::PgVersion;
