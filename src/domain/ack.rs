//! A replica's acknowledgement: which entries it has applied and which tenants it refuses. Travels as JSON in the
//! annotation of the replica's Lease.

use super::ident::{Incarnation, ProcessId, Uid, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most quarantined tenants that one acknowledgement names.
pub const MAX_QUARANTINED: usize = 200;

/// What a replica acknowledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// This process.
    pub process: ProcessId,
    /// UID of the Pod it runs in, if it runs in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Uid>,
    /// Highest `resourceVersion` of the entries it has applied, deletions included; 0 before its first list.
    pub version: Version,
    /// Highest entry format it reads.
    pub format: u32,
    /// Newest version of tenants' tables that it serves; one that does not say is from before there was a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,
    /// Most connections that it opens to databases; one that does not say is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_budget: Option<u32>,
    /// Tenants it does not serve as written, with the reason; the rest of the registry is served.
    #[serde(default)]
    pub quarantined: BTreeMap<Incarnation, String>,
    /// More tenants are quarantined than `quarantined` names: no tenant counts as served by this replica.
    #[serde(default)]
    pub quarantine_overflow: bool,
}

/// One replica as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Name for messages: its Pod or Lease.
    pub name: String,
    /// It takes requests (a Ready Pod, or a fresh Lease outside a cluster).
    pub ready: bool,
    /// It may take requests (a running container, or a Lease not yet given up).
    pub running: bool,
    /// What it acknowledged, if it ever did.
    pub acknowledged: Option<Acknowledgement>,
}

impl Replica {
    /// Whether it has applied everything up to `version`.
    pub fn has_applied(&self, version: Version) -> bool {
        self.acknowledged.as_ref().is_some_and(|a| a.version >= version)
    }
}
