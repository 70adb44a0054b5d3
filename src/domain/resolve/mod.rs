//! From raw specs to values that can't be wrong, or to violations that name the field.
//!
//! | file | resolves |
//! | --- | --- |
//! | `agent` | an AgentConfig |
//! | `overrides` | the parameters of an agent that a Tenant sets itself |
//! | `tenant` | a Tenant |

mod agent;
mod overrides;
mod tenant;

pub use super::violation::Violation;
pub use agent::{DesiredAgent, resolve_agent};
pub use tenant::{DesiredAgentRef, DesiredKeys, DesiredTenant, resolve_tenant, resolve_tenant_id};

use super::ident::{ObjectId, Uid};
use crate::api::names;
use std::collections::BTreeMap;

/// Whether the operator shall not touch an object, by its annotations.
///
/// # Errors
/// The broken rule.
pub fn resolve_paused(annotations: &BTreeMap<String, String>) -> Result<bool, Violation> {
    match annotations.get(names::PAUSED_ANNOTATION).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Violation::new(annotation(names::PAUSED_ANNOTATION), "must be 'true' or 'false'")),
    }
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// The oldest of several Tenants that claim one id, then the one with the smallest UID; those being deleted don't count.
pub fn resolve_claim(candidates: impl IntoIterator<Item = Claimant>) -> Option<Claimant> {
    candidates
        .into_iter()
        .filter(|c| !c.deleting)
        .min_by(|a, b| (a.created, &a.object.uid).cmp(&(b.created, &b.object.uid)))
}

/// A Tenant that claims a tenant id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The Tenant.
    pub object: ObjectId,
    /// When it was created; unknown sorts first, as before every known time.
    pub created: Option<jiff::Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Which life of an AgentConfig a name means, as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentLookup {
    /// No such AgentConfig.
    Missing,
    /// It is being deleted. Who runs it already keeps it, which holds the deletion up; nobody else may start to.
    Leaving(Uid),
    /// It exists, but its entry is not in the registry yet.
    Unpublished(Uid),
    /// Its entry is in the registry.
    Published(Uid),
}

#[cfg(test)]
mod tests;
