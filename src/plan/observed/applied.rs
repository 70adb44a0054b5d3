//! What the ledger says of a schema's migrations, beside its version.

use crate::{api::names::RETRY_MIGRATION_ANNOTATION, domain::migrations::Track};
use serde::Deserialize;

/// The custom migrations that were applied to a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Applied {
    /// Number of the last file; 0 for none.
    pub version: i32,
    /// Checksums, oldest first.
    pub checksums: Vec<String>,
}

/// The file that failed for a tenant, from the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MigrationFailure {
    /// Its track.
    pub track: Track,
    /// Its version.
    pub version: i32,
    /// Its checksum.
    pub checksum: String,
    /// The request that asked for that attempt; empty if nobody asked.
    pub request: String,
    /// The server's message.
    pub message: String,
}

/// The sentence for a file that failed. The same words when it fails and when the ledger reports it.
pub fn render_failure(track: Track, file: &str, message: &str) -> String {
    let kind = match track {
        Track::Base => "migration",
        Track::Custom => "custom migration",
    };
    format!(
        "{kind} {file} failed: {message}; it is not retried, and the tenant is served with the tables that it \
         has; when the cause is fixed, annotate the Tenant with {RETRY_MIGRATION_ANNOTATION}=<any new value>"
    )
}
