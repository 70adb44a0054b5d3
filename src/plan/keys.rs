//! The plan of a tenant's signing keys: which ring is the true one, and how it moves on.
//!
//! A ring is written in one order: Secret, ledger, entry. So a Secret one version ahead of the ledger is our own
//! half-done step and is finished; anything else that the ledger's mark does not know was edited or restored, and is put
//! right from the entry. One change of a ring per pass; the next pass sees what came of it.

mod evolve;

use super::{
    home::Home,
    inputs::Inputs,
    observed::{KeysView, ObservedTenant, Seen},
    step::{KeyChange, TenantStep},
    verdict::{Stand, Verdict},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        entry::TenantEntry,
        ident::{Incarnation, Version},
        keyring::{Keyring, KeyringError, PublishedRing, RingMark, RingRules},
        keys::{KeyBytes, VerificationKey},
        time::whole_seconds,
    },
};
use jiff::Timestamp;

/// What the plan says about keys.
pub(super) struct KeysPlan {
    /// How they stand.
    pub verdict: Verdict,
    /// The ring that the entry has to carry; `None` if later parts must wait.
    pub ring: Option<Keyring>,
    /// An acknowledgement of this entry version is awaited.
    pub awaits: Option<Version>,
    /// Look again at this time.
    pub wake_at: Option<Timestamp>,
}

impl KeysPlan {
    fn stop(stand: Stand, reason: Reason, note: String) -> Self {
        let verdict = Verdict::new(Part::SigningKeysReady, stand, reason, note);
        Self { verdict, ring: None, awaits: None, wake_at: None }
    }

    fn settled(verdict: Verdict, ring: Keyring) -> Self {
        Self { verdict, ring: Some(ring), awaits: None, wake_at: None }
    }
}

/// What everything about keys is planned from.
struct Situation<'a> {
    inputs: Inputs<'a>,
    home: &'a Home,
    rules: RingRules,
}

/// Plans the keys of a tenant whose home is known.
pub(super) fn plan_keys(inputs: Inputs<'_>, home: &Home, steps: &mut Vec<TenantStep>) -> KeysPlan {
    let Inputs { desired, observed, installation, .. } = inputs;
    let rules =
        RingRules { max_token_seconds: desired.max_token_seconds, grace_seconds: installation.signer_grace_seconds };
    let situation = Situation { inputs, home, rules };
    match &observed.keys {
        Seen::Foreign(note) => KeysPlan::stop(Stand::Refused(ErrorClass::Conflict), Reason::Conflict, note.clone()),
        Seen::Unknown(unseen) => KeysPlan::stop(Stand::Unseen(unseen.class), Reason::Retrying, unseen.note.clone()),
        Seen::Ours(KeysView { ring: Ok(ring), .. }) if ring.mark() == home.ring => situation.evolve(ring, steps),
        // Written by a pass that ended before it told the ledger.
        Seen::Ours(KeysView { ring: Ok(ring), .. }) if ring.version() == home.ring.version + 1 => {
            situation.record(ring, steps);
            KeysPlan::settled(issued(ring, Stand::Doing), ring.clone())
        }
        Seen::Ours(_) | Seen::Missing => situation.restore(steps),
    }
}

/// The mark of the ring that a new tenant gets in this pass, or one that takes over another's data: its first ring has
/// the version that follows.
pub(super) fn first_mark(inputs: Inputs<'_>, version: i32) -> RingMark {
    match inputs.observed.readable_keyring() {
        Some(ring) => ring.mark(),
        None => {
            first_ring(inputs, version).map_or_else(|_| RingMark { version, digest: String::new() }, |ring| ring.mark())
        }
    }
}

fn first_ring(inputs: Inputs<'_>, version: i32) -> Result<Keyring, KeyringError> {
    let Inputs { desired, observed, now, .. } = inputs;
    let request = desired.keys.rotate.clone();
    Keyring::first(version, observed.fresh.key.clone(), desired.max_token_seconds, request, whole_seconds(now))
}

/// What the registry entry still holds of the ring of the same data.
fn published_ring(observed: &ObservedTenant, incarnation: Incarnation) -> Option<PublishedRing<'_>> {
    let same = |entry: &&TenantEntry| entry.incarnation == incarnation && !entry.keys.is_empty();
    observed.readable_entry().filter(same).map(TenantEntry::ring)
}

/// `SigningKeysReady` of a ring that was only looked at.
pub(super) fn issued(ring: &Keyring, stand: Stand) -> Verdict {
    let note = match ring.current() {
        Some(key) => format!("key '{}' signs", key.verifying.kid),
        None => "a new key signs as soon as every replica knows it".to_owned(),
    };
    Verdict::new(Part::SigningKeysReady, stand, Reason::Issued, note)
}

impl Situation<'_> {
    /// Tells the ledger of a ring, if it does not know it yet.
    fn record(&self, ring: &Keyring, steps: &mut Vec<TenantStep>) {
        let mark = ring.mark();
        if let Some(row) = self.home.row.clone().filter(|_| mark != self.home.ring) {
            steps.push(TenantStep::RecordRing { row, mark });
        }
    }

    /// Writes a ring in place of the Secret that was seen, or makes the Secret; then tells the ledger.
    fn write(&self, ring: &Keyring, change: KeyChange, acknowledged: Option<Version>, steps: &mut Vec<TenantStep>) {
        steps.push(match &self.inputs.observed.keys {
            Seen::Ours(view) => TenantStep::ReplaceKeys {
                ring: ring.clone(),
                uid: view.uid.clone(),
                version: view.version,
                change,
                acknowledged,
            },
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => TenantStep::CreateKeys { ring: ring.clone() },
        });
        self.record(ring, steps);
    }

    /// The Secret is gone, damaged, edited or an older one: puts it right.
    fn restore(&self, steps: &mut Vec<TenantStep>) -> KeysPlan {
        let (observed, mark) = (self.inputs.observed, &self.home.ring);
        if matches!(observed.entry, Seen::Unknown(_)) {
            // The entry may hold the ring that was lost: no second key before it is read.
            let note = "the signing Secret is not the last one written, and the registry entry that holds its keys can't \
                        be read";
            return KeysPlan::stop(Stand::Unseen(ErrorClass::Transient), Reason::Retrying, note.to_owned());
        }
        let ring = match (published_ring(observed, self.home.incarnation), &observed.keys) {
            (Some(published), _) => self.restored(&published),
            (None, Seen::Ours(KeysView { ring: Err(e), .. })) => {
                let note = format!("the signing Secret is damaged: {e}; delete it, and new keys are issued");
                return KeysPlan::stop(Stand::Refused(ErrorClass::Conflict), Reason::Conflict, note);
            }
            // Nothing else is left to go by.
            (None, Seen::Ours(KeysView { ring: Ok(ring), .. })) => ring.with_version(mark.version + 1),
            (None, Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_)) => {
                match first_ring(self.inputs, mark.version) {
                    Ok(ring) if ring.mark() == *mark => Ok(ring),
                    _ => first_ring(self.inputs, mark.version + 1),
                }
            }
        };
        match ring {
            Ok(ring) => {
                self.write(&ring, KeyChange::Repair, None, steps);
                KeysPlan::settled(issued(&ring, Stand::Doing), ring)
            }
            Err(e) => {
                let note = format!("the keys can't be restored from the registry entry: {e}");
                KeysPlan::stop(Stand::Refused(ErrorClass::Conflict), Reason::Conflict, note)
            }
        }
    }

    /// The ring of the entry; the very one that the ledger knows, where nothing of it was lost.
    fn restored(&self, published: &PublishedRing<'_>) -> Result<Keyring, KeyringError> {
        let (mark, now) = (&self.home.ring, whole_seconds(self.inputs.now));
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
