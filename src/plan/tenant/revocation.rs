//! Revoking keys in an emergency, from the standing entry alone: neither the database nor a valid spec nor an AgentConfig is
//! needed. A new key follows when the rest can be planned.

use crate::{
    domain::{entry::TenantEntry, ident::Epoch, keys::Kid},
    plan::{
        observed::{EntryView, Seen},
        step::{EntryStep, TenantStep},
    },
};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// The step that revokes these keys; `None` if none of them stands in the Tenant's entry. Another Tenant's entry is never
/// changed: kids stand in every token, and a Tenant of the same id must not revoke the owner's keys.
pub fn plan_revocation(
    asked: &BTreeSet<Kid>,
    entry: &Seen<EntryView>,
    epoch: Epoch,
    now: Timestamp,
) -> Option<TenantStep> {
    let EntryView { entry, version, .. } = entry.ours()?;
    let entry = entry.as_ref().filter(|entry| entry.keys.iter().any(|key| asked.contains(&key.kid)))?;
    let entry = revoke(TenantEntry { epoch, ..entry.clone() }, asked, now);
    Some(EntryStep::Put { entry: Box::new(entry), replace: Some(*version) }.into())
}

/// The entry without these keys, which it lists as revoked.
pub(super) fn revoke(mut entry: TenantEntry, asked: &BTreeSet<Kid>, now: Timestamp) -> TenantEntry {
    let (revoked, keys): (Vec<_>, Vec<_>) = entry.keys.into_iter().partition(|key| asked.contains(&key.kid));
    entry.keys = keys;
    for key in revoked {
        entry.revoked_kids.entry(key.kid).or_insert(now);
    }
    entry
}
