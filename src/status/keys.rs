//! What the status says about a tenant's keys. It never holds a private key.

use super::facts::TenantFacts;
use crate::{
    api::{KeyStatusState, Notice, NoticeKind, Reason, TenantKeyStatus, TenantKeysStatus},
    domain::{
        keyring::{Keyring, SigningKey},
        keys::KeyState,
    },
    plan::{
        observed::ObservedTenant,
        step::{KeyChange, KeysStep, TenantStep},
    },
};

/// The keyring after this reconcile: the one that was written, otherwise the one that was read, if it is intact.
pub(super) fn project_keys(facts: &TenantFacts<'_>) -> Option<TenantKeysStatus> {
    let written = facts.execution.done.iter().rev().find_map(|(step, _)| keyring_of(step));
    let failed = facts.execution.failed.as_ref().and_then(|(step, _)| keyring_of(step));
    let seen = facts.observed.and_then(ObservedTenant::readable_keyring);
    // A keyring is not reported if its repair failed.
    let keyring = written.or(seen.filter(|_| failed.is_none()))?;
    Some(TenantKeysStatus {
        secret_name: facts.key_secret.to_owned(),
        current_kid: keyring.current().map(|key| key.verifying.kid.to_string()),
        ring: keyring.keys().iter().map(|key| project_key(facts, keyring, key)).collect(),
    })
}

fn keyring_of(step: &TenantStep) -> Option<&Keyring> {
    match step {
        TenantStep::Keys(KeysStep::Create { keyring } | KeysStep::Replace { keyring, .. }) => Some(keyring),
        _ => None,
    }
}

/// A key that the registry entry lists as revoked verifies nothing, also while the keyring still has it.
fn project_key(facts: &TenantFacts<'_>, keyring: &Keyring, key: &SigningKey) -> TenantKeyStatus {
    let kid = &key.verifying.kid;
    let published = facts.observed.and_then(ObservedTenant::readable_entry);
    let revoked = keyring.revoked().get(kid).or_else(|| published.and_then(|entry| entry.revoked_kids.get(kid)));
    let state = match (revoked, key.verifying.state) {
        (Some(_), _) => KeyStatusState::Revoked,
        (None, KeyState::Standby) => KeyStatusState::Standby,
        (None, KeyState::Current) => KeyStatusState::Current,
        (None, KeyState::Previous) => KeyStatusState::Previous,
    };
    TenantKeyStatus {
        kid: key.verifying.kid.to_string(),
        state,
        algorithm: key.verifying.algorithm,
        last_transition_time: revoked.copied().unwrap_or(key.verifying.since),
        expiration_time: key.verifying.verifies_until,
    }
}

/// The event for a change of the keyring.
pub(super) fn notice_of_keyring(keyring: &Keyring, change: KeyChange) -> Option<Notice> {
    let kid = |key: Option<&SigningKey>| key.map(|k| k.verifying.kid.to_string()).unwrap_or_default();
    let (kind, reason, note) = match change {
        KeyChange::Standby | KeyChange::Tidying => return None,
        KeyChange::Promotion => {
            (NoticeKind::Normal, Reason::KeysRotated, format!("key '{}' signs from now on", kid(keyring.current())))
        }
        KeyChange::Revocation => {
            let kids: Vec<String> = keyring.revoked().keys().map(ToString::to_string).collect();
            (NoticeKind::Warning, Reason::KeysRevoked, format!("revoked: {}", kids.join(", ")))
        }
        KeyChange::Repair => {
            let note = "the signing Secret differed from the last one written and was repaired from the registry entry";
            (NoticeKind::Warning, Reason::DriftRepaired, note.to_owned())
        }
    };
    Some(Notice { kind, reason, note })
}
