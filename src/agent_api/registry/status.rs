//! The state of this replica's registry, for people.

use crate::domain::ident::{Incarnation, Version};
use serde::Serialize;
use std::collections::BTreeMap;

/// The registry for people: `GET /registry` on the health port. It shows numbers only, because anybody who reaches the port
/// may read it; the log and the acknowledgement name the entries.
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
    /// How many entries are quarantined.
    pub quarantined_count: usize,
    /// Up to 200 of them by name.
    #[serde(skip)]
    pub quarantined: BTreeMap<String, QuarantineStatus>,
    /// How many deletions were not carried out.
    pub ignored_deletions_count: usize,
    /// These deletions by name, with the reason.
    #[serde(skip)]
    pub ignored_deletions: BTreeMap<String, &'static str>,
}

/// A quarantined entry for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineStatus {
    /// Identity of the tenant's data.
    pub incarnation: Option<Incarnation>,
    /// Why it is quarantined.
    pub reason: String,
}
