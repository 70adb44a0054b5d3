//! How a keyring changes: revocation first, then what is over, then rotation. Each is one change, written as a whole.

use super::{KeysPlan, Situation, issued};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        ident::Version,
        keyring::{Keyring, KeyringError, MAX_PREVIOUS},
        keys::KeyState,
        time::whole_seconds,
    },
    plan::{
        acks::{unacknowledged_replicas, unacknowledged_speakers},
        report::{PartReport, PartState},
        step::{KeyChange, TenantStep},
    },
};
use jiff::{SignedDuration, Timestamp};

/// A revoked key that signs is replaced at the latest after this time, whether or not every replica knows the new one.
const REVOCATION: SignedDuration = SignedDuration::from_secs(2);
/// A rotation that waits longer than this names the replicas that it waits for.
const HELD: SignedDuration = SignedDuration::from_secs(10);
/// How long the condition names the replicas that have not confirmed a revocation.
const REVOCATION_REPORTED: SignedDuration = SignedDuration::from_mins(15);

impl Situation<'_> {
    /// Plans the one change of the valid keyring that is due.
    pub(crate) fn evolve(&self, keyring: &Keyring, steps: &mut Vec<TenantStep>) -> KeysPlan {
        let held: std::collections::BTreeSet<_> = keyring
            .keys()
            .iter()
            .map(|k| &k.verifying.kid)
            .filter(|kid| self.inputs.desired.keys.revoke.contains(kid) && !keyring.revoked().contains_key(kid))
            .cloned()
            .collect();
        let (fresh, now) = (|| self.inputs.observed.fresh.key.clone(), whole_seconds(self.inputs.now));
        if !held.is_empty() {
            return self.change(keyring.revoking(&held, fresh(), now), KeyChange::Revocation, None, steps);
        }
        if let Some(tidied) = keyring.tidied(&self.rules, now) {
            return self.change(Ok(tidied), KeyChange::Tidying, None, steps);
        }
        match keyring.standby() {
            Some(standby)
                if standby.verifying.algorithm != self.inputs.desired.keys.algorithm
                    && !keyring.current_is_revoked() =>
            {
                self.change(keyring.with_standby(fresh(), now), KeyChange::Standby, None, steps)
            }
            Some(_) => self.promote(keyring, steps),
            None if self.is_due(keyring) => {
                self.change(keyring.with_standby(fresh(), now), KeyChange::Standby, None, steps)
            }
            None => self.unchanged(keyring, self.confirm(keyring)),
        }
    }

    fn is_due(&self, keyring: &Keyring) -> bool {
        let wanted = &self.inputs.desired.keys;
        let requested = wanted.rotate.is_some() && wanted.rotate.as_deref() != keyring.handled_request();
        let Some(current) = keyring.current() else { return false };
        let aged = self.due_at(keyring).is_some_and(|due| due <= self.inputs.now);
        requested || aged || current.verifying.algorithm != wanted.algorithm
    }

    fn due_at(&self, keyring: &Keyring) -> Option<Timestamp> {
        let current = keyring.current()?;
        current.verifying.since.saturating_add(self.inputs.desired.keys.period?).ok()
    }

    fn change(
        &self,
        keyring: Result<Keyring, KeyringError>,
        change: KeyChange,
        acknowledged: Option<Version>,
        steps: &mut Vec<TenantStep>,
    ) -> KeysPlan {
        match keyring {
            Ok(keyring) => {
                self.write(&keyring, change, acknowledged, steps);
                // The next change may be due at once.
                KeysPlan {
                    wake_at: Some(self.inputs.now),
                    ..KeysPlan::settled(self.report(&keyring, PartState::InProgress), keyring)
                }
            }
            Err(e) => KeysPlan::stop(PartState::Refused(ErrorClass::Bug), Reason::InternalError, e.to_string()),
        }
    }

    /// Lets the standby sign, once every replica verifies with it.
    fn promote(&self, keyring: &Keyring, steps: &mut Vec<TenantStep>) -> KeysPlan {
        let urgent = keyring.current_is_revoked();
        if !urgent && keyring.current().is_some() && keyring.in_state(KeyState::Previous).count() >= MAX_PREVIOUS {
            let note =
                format!("the keyring has {MAX_PREVIOUS} previous keys; the next rotation waits until one is over");
            return self.unchanged(keyring, self.waiting(Reason::RotationWaiting, note));
        }
        let request =
            self.inputs.desired.keys.rotate.clone().or_else(|| keyring.handled_request().map(ToOwned::to_owned));
        let deadline = keyring.revoked().values().max().and_then(|at| at.saturating_add(REVOCATION).ok());
        let overdue = urgent && deadline.is_some_and(|deadline| deadline <= self.inputs.now);
        let Some(version) = self.published_at(keyring) else {
            return self.unchanged(keyring, self.report(keyring, PartState::Ready));
        };
        let unacknowledged = self.unacknowledged(version);
        if unacknowledged.is_empty() || overdue {
            let next = keyring.promoted(request, &self.rules, whole_seconds(self.inputs.now));
            let acknowledged = unacknowledged.is_empty().then_some(version);
            return self.change(next, KeyChange::Promotion, acknowledged, steps);
        }
        let since = keyring.standby().map_or(self.inputs.now, |k| k.verifying.since);
        let held_from = since.saturating_add(HELD).unwrap_or(self.inputs.now);
        let report = if held_from <= self.inputs.now {
            self.waiting(Reason::RotationWaiting, format!("the new key waits for {}", unacknowledged.join(", ")))
        } else {
            self.report(keyring, PartState::Ready)
        };
        let next_wake = [Some(held_from).filter(|at| *at > self.inputs.now), deadline.filter(|_| urgent)]
            .into_iter()
            .flatten()
            .min();
        KeysPlan { awaits: Some(version), wake_at: next_wake, ..self.unchanged(keyring, report) }
    }

    /// Nothing to change now.
    fn unchanged(&self, keyring: &Keyring, report: PartReport) -> KeysPlan {
        let due = self.due_at(keyring).filter(|_| keyring.standby().is_none());
        let named_until =
            self.unconfirmed(keyring).and_then(|_| self.pending_from(keyring)).filter(|at| *at > self.inputs.now);
        let wake_at = keyring.next_tidying().into_iter().chain(due).chain(named_until).min();
        let awaits = self.unconfirmed(keyring).map(|(version, _)| version);
        KeysPlan { report, keyring: Some(keyring.clone()), awaits, wake_at }
    }

    /// The report on a keyring that needs no change: whether every replica has confirmed the last revocation.
    fn confirm(&self, keyring: &Keyring) -> PartReport {
        match self.unconfirmed(keyring) {
            Some((_, names)) if self.pending_from(keyring).is_some_and(|at| at <= self.inputs.now) => {
                let note = format!("revoked keys may still verify at {}", names.join(", "));
                self.waiting(Reason::RevocationPending, note)
            }
            Some(_) | None => self.report(keyring, PartState::Ready),
        }
    }

    fn pending_from(&self, keyring: &Keyring) -> Option<Timestamp> {
        keyring.revoked().values().max()?.saturating_add(REVOCATION).ok()
    }

    /// The replicas that may not know of the last revocation yet, and the entry version that has it.
    fn unconfirmed(&self, keyring: &Keyring) -> Option<(Version, Vec<String>)> {
        let last = keyring.revoked().values().max()?;
        let recent = self.inputs.now.duration_since(*last) < REVOCATION_REPORTED;
        let version = self.published_at(keyring).filter(|_| recent)?;
        let names = unacknowledged_replicas(version, &self.inputs.observed.replicas);
        (!names.is_empty()).then_some((version, names))
    }

    /// The entry version at which this very keyring was published, if it was.
    fn published_at(&self, keyring: &Keyring) -> Option<Version> {
        let view = self.inputs.observed.entry.ours()?;
        view.entry.as_ref().filter(|entry| entry.keyring().mark() == keyring.mark()).map(|_| view.version)
    }

    /// The replicas that may take requests and do not verify with what is published at `version`.
    fn unacknowledged(&self, version: Version) -> Vec<String> {
        let replicas = &self.inputs.observed.replicas;
        let mut unacknowledged = unacknowledged_speakers(version, replicas);
        let speaking = replicas.all.iter().filter(|r| r.running);
        let speaking: Vec<_> = speaking.filter_map(|r| r.acknowledged.as_ref().map(|ack| (r, ack))).collect();
        if speaking.is_empty() && !replicas.none_wanted {
            return vec!["a replica of the agent API".to_owned()];
        }
        // A replica that refuses an entry may have kept an earlier one.
        let refusing = speaking
            .iter()
            .filter(|(_, ack)| ack.quarantine_overflow || ack.quarantined.contains_key(&self.data.incarnation));
        unacknowledged.extend(refusing.map(|(replica, _)| replica.name.clone()));
        unacknowledged
    }

    fn waiting(&self, reason: Reason, note: String) -> PartReport {
        PartReport::new(Part::SigningKeysReady, PartState::Ready, reason, note)
    }

    fn report(&self, keyring: &Keyring, state: PartState) -> PartReport {
        match (keyring.current(), keyring.standby()) {
            (Some(now), Some(next)) => PartReport::new(
                Part::SigningKeysReady,
                state,
                Reason::Rotating,
                format!("key '{}' signs; key '{}' follows", now.verifying.kid, next.verifying.kid),
            ),
            (_, Some(_)) | (_, None) => issued(keyring, state),
        }
    }
}
