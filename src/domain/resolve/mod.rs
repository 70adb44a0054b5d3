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
pub use tenant::{DesiredAgentRef, DesiredKeys, DesiredTenant, resolve_revoked, resolve_tenant, resolve_tenant_id};

use super::ident::{ObjectId, Uid};
use crate::api::names;
use std::collections::BTreeMap;

/// Whether an object's annotations say that the operator must not change it.
///
/// # Errors
/// The broken rule.
pub(crate) fn resolve_paused(annotations: &BTreeMap<String, String>) -> Result<bool, Violation> {
    match annotations.get(names::PAUSED_ANNOTATION).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Violation::new(annotation(names::PAUSED_ANNOTATION), "must be 'true' or 'false'")),
    }
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// The Tenant that gets an id: the oldest of those that claim it, then the one with the smallest UID. Tenants that are
/// being deleted don't count.
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
    /// When it was created. An unknown time sorts first.
    pub created: Option<jiff::Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What the registry has of the AgentConfig with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentLookup {
    /// No such AgentConfig.
    Missing,
    /// It is being deleted. Tenants that use it already keep it and delay the deletion; no other tenant may start to
    /// use it.
    Leaving(Uid),
    /// It exists, but its entry is not in the registry yet.
    Unpublished(Uid),
    /// Its entry is in the registry.
    Published(Uid),
}

#[cfg(test)]
mod tests;
