//! The model's registry: Secrets of one namespace with one order of versions, and the lock of references.

use super::state::{NewSecret, State, transient};
use agent_tenancy::{
    domain::{
        class::ErrorClass,
        entry::{Entry, TenantState},
        ident::{Uid, Version},
    },
    effects::error::EffectError,
    plan::step::Done,
};

/// Creates an entry, or replaces the version that was seen.
pub fn put(state: &mut State, entry: Entry, owner: Option<Uid>, replace: Option<Version>) -> Result<Done, EffectError> {
    let name = entry.name();
    if let Some(missing) = State::references(Some(&entry)).into_iter().find(|n| !holds(state, n)) {
        let active = !matches!(&entry, Entry::Tenant(e) if e.state == TenantState::Deleting);
        if active {
            return Err(transient(format!("{name} would refer to {missing}")));
        }
    }
    let uid = match (state.registry.get(&name), replace) {
        (None, None) => state.uid("secret"),
        (Some(found), Some(version)) if found.version == version => found.uid.clone(),
        (Some(_), None) => return Err(transient(format!("{name} exists"))),
        (None | Some(_), Some(_)) => return Err(transient(format!("{name} changed"))),
    };
    check_tenant(state, &entry);
    let version = state.set_registry(&name, Some(NewSecret { uid, owner, entry: Some(entry) }));
    state.wrote();
    Ok(Done::At(version))
}

/// A key never changes under a tenant, and no entry is written for a tenant that is served elsewhere.
fn check_tenant(state: &mut State, entry: &Entry) {
    let Entry::Tenant(entry) = entry else { return };
    let first = state.kids.get(&entry.uid).cloned();
    if let (Some(first), TenantState::Active) = (first, entry.state)
        && !entry.keys.iter().any(|k| k.kid == first)
        && !entry.revoked_kids.contains_key(&first)
    {
        state.violation(format!("the entry of {} lost its key '{first}'", entry.tenant_id));
    }
}

pub fn holds(state: &State, name: &str) -> bool {
    state.registry.get(name).is_some_and(|s| s.entry.is_some())
}

/// Deletes exactly the Secret that was seen.
pub fn delete(state: &mut State, name: &str, uid: Option<&Uid>, version: Version) -> Result<Done, EffectError> {
    let Some(found) = state.registry.get(name).cloned() else { return Ok(Done::Plain) };
    if state.is_referenced(name) {
        return Err(EffectError::new(ErrorClass::Waiting, format!("{name} is in use")));
    }
    if found.version != version || uid.is_some_and(|uid| *uid != found.uid) {
        return Err(transient(format!("{name} changed")));
    }
    if let Some(Entry::Tenant(entry)) = &found.entry {
        let waited = state.now.duration_since(entry.state_since).as_secs() >= super::state::ACK_TIMEOUT;
        if entry.state != TenantState::Deleting {
            state.violation(format!("{name} was deleted while it was served"));
        } else if state.unacknowledged(found.version) && !waited && !state.stale {
            state.violation(format!("{name} was deleted before every replica let go of the tenant"));
        }
    } else if let (Some(last), Some(Entry::Agent(_) | Entry::Upstream(_))) = (state.dropped.get(name), &found.entry) {
        let waited = state.now.duration_since(last.since).as_secs() >= super::state::ACK_TIMEOUT;
        if state.unacknowledged(last.version) && !waited && !state.stale {
            state.violation(format!("{name} was deleted before every replica let go of it"));
        }
    } else if found.entry.is_none() && name.starts_with("tenant-") {
        state.violation(format!("{name} was deleted damaged: replicas serve its last good state for ever"));
    }
    state.set_registry(name, None);
    state.wrote();
    Ok(Done::Plain)
}
