//! The state of this replica's registry, for people.

use crate::domain::ident::{Incarnation, Version};
use serde::Serialize;
use std::collections::BTreeMap;

/// The registry for people: GET /registry on the health port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Whether all of the first list is applied and may be acknowledged: the login to each new cell was accepted or refused.
    pub listed: bool,
    /// Everything up to here is applied and may be acknowledged.
    pub version: Version,
    /// Loaded tenants.
    pub tenants: usize,
    /// Loaded AgentConfigs.
    pub agents: usize,
    /// Cells with a login that worked.
    pub cells: usize,
    /// How many entries are quarantined; up to 200 follow.
    pub quarantined_count: usize,
    /// Quarantined entries by name.
    pub quarantined: BTreeMap<String, QuarantineStatus>,
    /// Deletions that were not carried out, by name, with the reason.
    pub ignored_deletions: BTreeMap<String, &'static str>,
}

/// A quarantined entry for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineStatus {
    /// Identity of the tenant's data.
    pub incarnation: Option<Incarnation>,
    /// Why it is quarantined.
    pub reason: String,
}
