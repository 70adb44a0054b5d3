//! What earlier reconciles left in the status of an object.

use crate::domain::ident::{DatabaseId, Incarnation, Version};

/// What the object itself records: facts that earlier reconciles recorded in status, evidence that something was there once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The database in which the tenant was provisioned.
    pub database_id: Option<DatabaseId>,
    /// The instance in which that was.
    pub instance: Option<String>,
    /// The incarnation it had.
    pub incarnation: Option<Incarnation>,
    /// The entry that was proved to be served.
    pub served: Option<ServedProof>,
    /// What a person gives up for lost, by annotation: an incarnation or the id of a database.
    pub accepted_loss: Option<String>,
    /// Asks by annotation to try a migration again that failed; each new value is one request.
    pub retry_migration: Option<String>,
}

/// What a proof of serving was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedProof {
    /// Version of the entry.
    pub version: Version,
    /// Generation of the spec that it was made from.
    pub generation: Option<i64>,
}
