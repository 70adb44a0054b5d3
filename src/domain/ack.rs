//! A replica's acknowledgement: which entries it has applied and which tenants it refuses. It is stored as JSON in an
//! annotation of the replica's Lease.

use super::ident::{Incarnation, ProcessId, Uid, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of quarantined tenants that one acknowledgement names.
pub(crate) const MAX_QUARANTINED: usize = 200;

/// What a replica acknowledges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledgement {
    /// Id of the process.
    pub process: ProcessId,
    /// UID of its Pod, if it runs in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Uid>,
    /// Highest `resourceVersion` of the entries it has applied, deletions included; 0 before its first list.
    pub version: Version,
    /// Highest entry format that it reads.
    pub format: u32,
    /// Newest version of tenants' schemas that it serves. Absent in replicas that know version 1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,
    /// Maximum number of connections that it opens to databases. A replica without it is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_budget: Option<u32>,
    /// Tenants that it does not serve as their entries say, with the reason. It serves the rest of the registry.
    #[serde(default)]
    pub quarantined: BTreeMap<Incarnation, String>,
    /// More tenants are quarantined than `quarantined` can name, so no tenant counts as served by this replica.
    #[serde(default)]
    pub quarantine_overflow: bool,
}

/// One replica as the operator observes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Name for messages: its Pod or Lease.
    pub name: String,
    /// Whether it receives requests (a Ready Pod, or a fresh Lease outside a cluster).
    pub ready: bool,
    /// Whether it may receive requests (a running container, or a Lease that was not released).
    pub running: bool,
    /// Its last acknowledgement, if there is one.
    pub acknowledged: Option<Acknowledgement>,
}

impl Replica {
    /// Whether it has applied everything up to `version`.
    pub(crate) fn has_applied(&self, version: Version) -> bool {
        self.acknowledged.as_ref().is_some_and(|a| a.version >= version)
    }
}
