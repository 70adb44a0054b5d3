//! The plan of a tenant's signing keys: which keyring is valid, and how it changes.
//!
//! A keyring is written in one order: Secret, ledger, entry. So a Secret one version ahead of the ledger is our own
//! half-done step and is finished; anything else that the ledger's mark does not know was edited or restored, and is
//! repaired from the entry. A reconcile makes one change of a keyring; the next reconcile reads the result.

mod evolve;

use super::{inputs::Inputs, location::TenantData};
use crate::plan::{
    observed::{KeysView, ObservedTenant, Seen},
    report::{PartReport, PartState},
    step::{DatabaseStep, KeyChange, KeysStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        entry::TenantEntry,
        ident::{Incarnation, Version},
        keyring::{Keyring, KeyringError, KeyringMark, KeyringRules, PublishedKeyring},
        keys::{KeyBytes, VerificationKey},
        time::whole_seconds,
    },
};
use jiff::Timestamp;

/// What the plan says about keys.
pub(crate) struct KeysPlan {
    /// The state of the keys.
    pub report: PartReport,
    /// The keyring that the entry has to carry; `None` if later parts must wait.
    pub keyring: Option<Keyring>,
    /// An acknowledgement of this entry version is awaited.
    pub awaits: Option<Version>,
    /// Requeue at this time.
    pub wake_at: Option<Timestamp>,
}

impl KeysPlan {
    fn stop(state: PartState, reason: Reason, note: String) -> Self {
        let report = PartReport::new(Part::SigningKeysReady, state, reason, note);
        Self { report, keyring: None, awaits: None, wake_at: None }
    }

    fn settled(report: PartReport, keyring: Keyring) -> Self {
        Self { report, keyring: Some(keyring), awaits: None, wake_at: None }
    }
}

/// What everything about keys is planned from.
struct Situation<'a> {
    inputs: Inputs<'a>,
    data: &'a TenantData,
    rules: KeyringRules,
}

/// Plans the keys of a tenant with known data.
pub(crate) fn plan_keys(inputs: Inputs<'_>, data: &TenantData, steps: &mut Vec<TenantStep>) -> KeysPlan {
    let Inputs { desired, observed, installation, .. } = inputs;
    let rules = KeyringRules {
        max_token_seconds: desired.tokens.max_token_seconds,
        grace_seconds: installation.signer_grace_seconds,
    };
    let situation = Situation { inputs, data, rules };
    match &observed.keys {
        Seen::Foreign(note) => KeysPlan::stop(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note.clone()),
        Seen::Unknown(read_error) => {
            KeysPlan::stop(PartState::Unread(read_error.class), Reason::Retrying, read_error.note.clone())
        }
        Seen::Ours(KeysView { keyring: Ok(keyring), .. }) if keyring.mark() == data.keyring => {
            situation.evolve(keyring, steps)
        }
        // Written by a reconcile that ended before it recorded the mark in the ledger.
        Seen::Ours(KeysView { keyring: Ok(keyring), .. }) if keyring.version() == data.keyring.version + 1 => {
            situation.record(keyring, steps);
            KeysPlan::settled(issued(keyring, PartState::InProgress), keyring.clone())
        }
        Seen::Ours(_) | Seen::Missing => situation.restore(steps),
    }
}

/// The mark of the keyring that a new tenant gets in this reconcile, or a tenant that takes over data: its first keyring has
/// the version that follows.
pub(crate) fn first_mark(inputs: Inputs<'_>, version: i32) -> KeyringMark {
    match inputs.observed.readable_keyring() {
        Some(keyring) => keyring.mark(),
        None => first_keyring(inputs, version)
            .map_or_else(|_| KeyringMark { version, digest: String::new() }, |keyring| keyring.mark()),
    }
}

fn first_keyring(inputs: Inputs<'_>, version: i32) -> Result<Keyring, KeyringError> {
    let Inputs { desired, observed, now, .. } = inputs;
    let request = desired.keys.rotate.clone();
    Keyring::first(version, observed.fresh.key.clone(), desired.tokens.max_token_seconds, request, whole_seconds(now))
}

/// What the registry entry still holds of the keyring of the same data.
fn published_keyring(observed: &ObservedTenant, incarnation: Incarnation) -> Option<PublishedKeyring<'_>> {
    let same = |entry: &&TenantEntry| entry.incarnation == incarnation && !entry.keys.is_empty();
    observed.readable_entry().filter(same).map(TenantEntry::keyring)
}

/// `SigningKeysReady` of a keyring that this reconcile does not change.
pub(crate) fn issued(keyring: &Keyring, state: PartState) -> PartReport {
    let note = match keyring.current() {
        Some(key) => format!("key '{}' signs", key.verifying.kid),
        None => "a new key signs as soon as every replica knows it".to_owned(),
    };
    PartReport::new(Part::SigningKeysReady, state, Reason::Issued, note)
}

impl Situation<'_> {
    /// Records a keyring in the ledger, unless the ledger has it.
    fn record(&self, keyring: &Keyring, steps: &mut Vec<TenantStep>) {
        let mark = keyring.mark();
        if let Some(row) = self.data.row.clone().filter(|_| mark != self.data.keyring) {
            steps.push(TenantStep::Database(DatabaseStep::RecordKeyring { row, mark }));
        }
    }

    /// Writes a keyring in place of the Secret that was read, or creates the Secret; then records it in the ledger.
    fn write(&self, keyring: &Keyring, change: KeyChange, acknowledged: Option<Version>, steps: &mut Vec<TenantStep>) {
        steps.push(match &self.inputs.observed.keys {
            Seen::Ours(view) => TenantStep::Keys(KeysStep::Replace {
                keyring: keyring.clone(),
                uid: view.uid.clone(),
                version: view.version,
                change,
                acknowledged,
            }),
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => {
                TenantStep::Keys(KeysStep::Create { keyring: keyring.clone() })
            }
        });
        self.record(keyring, steps);
    }

    /// The Secret is gone, damaged, edited or an older one: repairs it.
    fn restore(&self, steps: &mut Vec<TenantStep>) -> KeysPlan {
        let (observed, mark) = (self.inputs.observed, &self.data.keyring);
        if matches!(observed.entry, Seen::Unknown(_)) {
            // The entry may hold the keyring that was lost: no second key before it is read.
            let note = "the signing Secret is not the last one written, and the registry entry that holds its keys can't \
                        be read";
            return KeysPlan::stop(PartState::Unread(ErrorClass::Transient), Reason::Retrying, note.to_owned());
        }
        let keyring = match (published_keyring(observed, self.data.incarnation), &observed.keys) {
            (Some(published), _) => self.restored(&published),
            (None, Seen::Ours(KeysView { keyring: Err(e), .. })) => {
                let note = format!("the signing Secret is damaged: {e}; delete it, and new keys are issued");
                return KeysPlan::stop(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note);
            }
            // Nothing else is left to go by.
            (None, Seen::Ours(KeysView { keyring: Ok(keyring), .. })) => keyring.with_version(mark.version + 1),
            (None, Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_)) => {
                match first_keyring(self.inputs, mark.version) {
                    Ok(keyring) if keyring.mark() == *mark => Ok(keyring),
                    _ => first_keyring(self.inputs, mark.version + 1),
                }
            }
        };
        match keyring {
            Ok(keyring) => {
                self.write(&keyring, KeyChange::Repair, None, steps);
                KeysPlan::settled(issued(&keyring, PartState::InProgress), keyring)
            }
            Err(e) => {
                let note = format!("the keys can't be restored from the registry entry: {e}");
                KeysPlan::stop(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note)
            }
        }
    }

    /// The keyring of the entry; the very one that the ledger knows, where nothing of it was lost.
    fn restored(&self, published: &PublishedKeyring<'_>) -> Result<Keyring, KeyringError> {
        let (mark, now) = (&self.data.keyring, whole_seconds(self.inputs.now));
        let private = |key: &VerificationKey| self.private(key);
        let build = |version| {
            let fallback = self.inputs.observed.fresh.key.clone();
            Keyring::restored(version, published, private, fallback, self.rules.grace_seconds, now)
        };
        let same = build(mark.version)?;
        if same.mark() == *mark { Ok(same) } else { build(mark.version + 1) }
    }

    /// The private key of a public one, if the Secret still holds it.
    fn private(&self, key: &VerificationKey) -> Option<KeyBytes> {
        let found = self
            .inputs
            .observed
            .readable_keyring()?
            .keys()
            .iter()
            .find(|k| k.verifying.kid == key.kid && k.verifying.key == key.key);
        found.and_then(|k| k.private.clone())
    }
}
