//! The model's signing Secrets, and what must never happen to the keys in them.

use super::state::{KeySecret, State, transient};
use agent_tenancy::{
    domain::{
        ident::{Uid, Version},
        keyring::{Keyring, SigningKey},
        keys::{KeyState, Kid},
    },
    effects::{error::EffectError, world::TenantScope},
    plan::step::Done,
};

fn key_of(scope: &TenantScope) -> (String, String) {
    (scope.object.namespace.clone(), scope.key_secret.clone())
}

pub fn parse(secret: &KeySecret) -> Option<Keyring> {
    Keyring::parse_secret(|key| secret.data.get(key).map(Vec::as_slice)).ok()
}

pub fn create(state: &mut State, scope: &TenantScope, keyring: &Keyring) -> Result<Done, EffectError> {
    let name = key_of(scope);
    if state.secrets.contains_key(&name) {
        return Err(transient("the Secret exists"));
    }
    note_current(state, scope, keyring);
    let (uid, version) = (state.uid("secret"), state.bump());
    let data = keyring.render_secret();
    state.secrets.insert(name, KeySecret { uid, version, owner: Some(scope.object.uid.clone()), data });
    state.wrote();
    Ok(Done::Plain)
}

/// The key that signed until now must still be in the keyring, or must have been revoked.
fn note_current(state: &mut State, scope: &TenantScope, keyring: &Keyring) {
    let known = state.kids.get(&scope.object.uid).cloned();
    let kept =
        |kid: &Kid| keyring.keys().iter().any(|k| k.verifying.kid == *kid) || keyring.revoked().contains_key(kid);
    if let Some(known) = known.filter(|kid| !kept(kid) && !state.stale) {
        state.violation(format!("the key '{known}' of {} is gone from its keyring", scope.object));
    }
    if let Some(current) = keyring.current() {
        state.kids.insert(scope.object.uid.clone(), current.verifying.kid.clone());
    }
}

pub fn replace(
    state: &mut State,
    scope: &TenantScope,
    keyring: &Keyring,
    uid: &Uid,
    version: Version,
) -> Result<Done, EffectError> {
    let name = key_of(scope);
    let Some(found) = state.secrets.get(&name).filter(|s| s.uid == *uid && s.version == version).cloned() else {
        return Err(transient("the Secret changed"));
    };
    let last = state.database.rows.values().find(|r| r.uid == scope.object.uid).map(|r| r.keyring.clone());
    // What people did to the Secret has no claim to be kept.
    if let Some(before) = parse(&found).filter(|keyring| Some(keyring.mark()) == last) {
        check_step(state, scope, &before, keyring);
    }
    note_current(state, scope, keyring);
    let version = state.bump();
    if let Some(secret) = state.secrets.get_mut(&name) {
        (secret.version, secret.data) = (version, keyring.render_secret());
    }
    state.wrote();
    Ok(Done::Plain)
}

/// No key is dropped while a token of it may be valid, and none signs before every speaking replica verifies it.
fn check_step(state: &mut State, scope: &TenantScope, before: &Keyring, after: &Keyring) {
    let now = state.now;
    let stays = |key: &SigningKey| after.keys().iter().any(|k| k.verifying.kid == key.verifying.kid);
    let over = |key: &SigningKey| match key.verifying.state {
        KeyState::Standby => true,
        KeyState::Previous => key.verifying.verifies_until.is_some_and(|until| until <= now),
        KeyState::Current => false,
    };
    let revoked = |key: &SigningKey| after.revoked().contains_key(&key.verifying.kid);
    for key in before.keys().iter().filter(|k| !stays(k) && !over(k) && !revoked(k)) {
        state.violation(format!("the key '{}' of {} was dropped too early", key.verifying.kid, scope.object));
    }
    let (Some(old), Some(new)) = (before.current(), after.current()) else { return };
    if old.verifying.kid == new.verifying.kid || revoked(old) {
        return;
    }
    let entry = scope.tenant_id.as_ref().and_then(|id| state.registry.get(&id.entry_name()).cloned());
    let published = scope.tenant_id.as_ref().and_then(|id| state.tenant_entry(id));
    let knows = published.is_some_and(|e| e.keys.iter().any(|k| k.kid == new.verifying.kid));
    let version = entry.map(|e| e.version);
    let aware = state.replicas.iter().filter(|r| r.running && r.applied.is_some()).all(|r| r.applied >= version);
    if !(state.stale || knows && aware) {
        state.violation(format!("the key '{}' signs before every replica knows it", new.verifying.kid));
    }
}
