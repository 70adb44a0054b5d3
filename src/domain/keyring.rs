//! A tenant's keyring: its rules, its changes, and its layout in a Secret.
//!
//! The Secret's layout is API: `current.kid`, `current.key` and `current.alg` for signers, `ring.json` for the
//! operator. Each change creates a keyring with the next version. The ledger repeats version and digest, which decide
//! between a Secret and an entry that contradict each other.

use super::keys::{Algorithm, KeyBytes, KeyState, Kid, VerificationKey, can_verify};
use crate::api::TenantAuth;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

mod secret;

/// Maximum number of `Previous` keys. With them the keyring is full, and the next promotion waits.
pub(crate) const MAX_PREVIOUS: usize = 14;
/// Tolerated difference between the clocks of signers and verifiers, in seconds. The agent API uses the same value.
pub(crate) const LEEWAY_SECONDS: i64 = 30;
/// How long a revoked kid stays listed: twice the longest allowed lifetime of a token.
pub(crate) const REVOKED_LISTED: SignedDuration = SignedDuration::from_secs(2 * TenantAuth::TOKEN_SECONDS.max as i64);

/// One key of a keyring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// The part that verifies. For HS256 this is the key itself.
    #[serde(flatten)]
    pub verifying: VerificationKey,
    /// The private key (PKCS #8, RFC 5208) of EdDSA and ES256; `None` if it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<KeyBytes>,
}

impl SigningKey {
    /// The bytes that sign; `None` if they were lost.
    pub(crate) fn signing_bytes(&self) -> Option<&KeyBytes> {
        if self.verifying.algorithm.is_symmetric() { Some(&self.verifying.key) } else { self.private.as_ref() }
    }
}

/// A new key, generated for one reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Its id.
    pub kid: Kid,
    /// How it signs.
    pub algorithm: Algorithm,
    /// The secret (HS256) or the public key.
    pub verifying: KeyBytes,
    /// The private key, if it differs.
    pub private: Option<KeyBytes>,
}

impl NewKey {
    fn into_key(self, state: KeyState, now: Timestamp) -> SigningKey {
        let Self { kid, algorithm, verifying, private } = self;
        let (longest_token_seconds, verifies_until) = (0, None);
        let verifying = VerificationKey {
            kid,
            algorithm,
            state,
            since: now,
            longest_token_seconds,
            verifies_until,
            key: verifying,
        };
        SigningKey { verifying, private }
    }
}

/// A tenant's keys. At most one is `Current`, at most one is `Standby`, at least one of the two exists, and kids
/// differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    handled_request: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    revoked: BTreeMap<Kid, Timestamp>,
    keys: Vec<SigningKey>,
}

/// Why something is not a keyring. The message never quotes the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A key of the Secret is missing.
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// A value does not parse.
    #[error("'{0}' is damaged")]
    Damaged(&'static str),
    /// The keys contradict each other.
    #[error("'ring.json' must have one Current key or a Standby, distinct kids, and keys that fit their algorithms")]
    Inconsistent,
    /// `current.*` is not the keyring's current key.
    #[error("'current.kid', 'current.key' or 'current.alg' is not the keyring's Current key")]
    Mismatch,
}

/// What the ledger repeats of a keyring.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeyringMark {
    /// Its version.
    pub version: i32,
    /// Hash of everything except private keys.
    pub digest: String,
}

impl Keyring {
    /// A keyring of these parts.
    ///
    /// # Errors
    /// When the parts break a rule of keyrings.
    pub fn new(
        version: i32,
        handled_request: Option<String>,
        revoked: BTreeMap<Kid, Timestamp>,
        keys: Vec<SigningKey>,
    ) -> Result<Self, KeyringError> {
        let count = |state| keys.iter().filter(|k| k.verifying.state == state).count();
        let kids: BTreeSet<_> = keys.iter().map(|k| &k.verifying.kid).collect();
        let fits = |k: &SigningKey| {
            let usable = k.verifying.state == KeyState::Previous || k.signing_bytes().is_some();
            let ends = (k.verifying.state == KeyState::Previous) == k.verifying.verifies_until.is_some();
            // A revoked key stays only while it is `Current`, until its successor may sign.
            let alive = k.verifying.state == KeyState::Current || !revoked.contains_key(&k.verifying.kid);
            usable && ends && alive && can_verify(k.verifying.algorithm, &k.verifying.key)
        };
        let (current, standby) = (count(KeyState::Current), count(KeyState::Standby));
        let right = current <= 1 && standby <= 1 && current + standby >= 1 && count(KeyState::Previous) <= MAX_PREVIOUS;
        if !right || kids.len() != keys.len() || !keys.iter().all(fits) || version < 1 {
            return Err(KeyringError::Inconsistent);
        }
        Ok(Self { version, handled_request, revoked, keys })
    }

    /// The keyring of a new tenant. Its first key is current at once: no token is signed before the tenant is served. `request`
    /// is the rotation that was asked for by then; there is nothing to rotate yet.
    ///
    /// # Errors
    /// When the key does not fit its algorithm.
    pub fn first(
        version: i32,
        new: NewKey,
        longest_token_seconds: i32,
        request: Option<String>,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let mut key = new.into_key(KeyState::Current, now);
        key.verifying.longest_token_seconds = longest_token_seconds;
        Self::new(version, request, BTreeMap::new(), vec![key])
    }

    /// A keyring from what the registry entry holds of it, with the private keys that `private` still knows. Keys that
    /// can't sign any more verify until their tokens have expired; `fallback` takes the place of a lost private key.
    ///
    /// # Errors
    /// When the result is no valid keyring.
    pub(crate) fn restored(
        version: i32,
        published: &PublishedKeyring<'_>,
        private: impl Fn(&VerificationKey) -> Option<KeyBytes>,
        fallback: NewKey,
        grace_seconds: i64,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let mut keys: Vec<SigningKey> =
            published.keys.iter().map(|k| SigningKey { verifying: k.clone(), private: private(k) }).collect();
        for key in &mut keys {
            if key.signing_bytes().is_none() && key.verifying.state != KeyState::Previous {
                retire(key, now, grace_seconds);
            }
        }
        if !keys.iter().any(|k| k.verifying.state != KeyState::Previous) {
            keys.push(fallback.into_key(KeyState::Standby, now));
        }
        Self::new(version, published.request.map(ToOwned::to_owned), published.revoked.clone(), keys)
    }

    /// The same keys as another version.
    ///
    /// # Errors
    /// When the version is not positive.
    pub fn with_version(&self, version: i32) -> Result<Self, KeyringError> {
        Self::new(version, self.handled_request.clone(), self.revoked.clone(), self.keys.clone())
    }

    /// Counts changes of the keyring.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// All keys, including a revoked one that is still in the place of `Current`.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The last rotation request that was fulfilled.
    pub fn handled_request(&self) -> Option<&str> {
        self.handled_request.as_deref()
    }

    /// Revoked kids, and when each was.
    pub fn revoked(&self) -> &BTreeMap<Kid, Timestamp> {
        &self.revoked
    }

    /// The key that signs; `None` while its successor waits to be known everywhere.
    pub fn current(&self) -> Option<&SigningKey> {
        self.in_state(KeyState::Current).next()
    }

    /// The key that will sign next.
    pub fn standby(&self) -> Option<&SigningKey> {
        self.in_state(KeyState::Standby).next()
    }

    /// Every key in this state.
    pub fn in_state(&self, state: KeyState) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().filter(move |k| k.verifying.state == state)
    }

    /// Whether the signing key was revoked.
    pub(crate) fn current_is_revoked(&self) -> bool {
        self.current().is_some_and(|k| self.revoked.contains_key(&k.verifying.kid))
    }

    /// The keys for the registry entry: without private keys and without revoked ones.
    pub fn published(&self) -> Vec<VerificationKey> {
        let alive = self.keys.iter().filter(|k| !self.revoked.contains_key(&k.verifying.kid));
        alive.map(|k| k.verifying.clone()).collect()
    }

    /// What the ledger repeats of this keyring.
    pub fn mark(&self) -> KeyringMark {
        let keys = self.published();
        PublishedKeyring {
            version: self.version,
            request: self.handled_request.as_deref(),
            revoked: &self.revoked,
            keys: &keys,
        }
        .mark()
    }

    /// The next version with a new `Standby` key, which verifies everywhere before it signs. An earlier one is dropped.
    ///
    /// # Errors
    /// When the key does not fit.
    pub(crate) fn with_standby(&self, new: NewKey, now: Timestamp) -> Result<Self, KeyringError> {
        let others = self.keys.iter().filter(|k| k.verifying.state != KeyState::Standby).cloned();
        let keys = others.chain([new.into_key(KeyState::Standby, now)]).collect();
        Self::new(self.version + 1, self.handled_request.clone(), self.revoked.clone(), keys)
    }

    /// The next version: the `Standby` key signs, and the former signing key verifies until its last token has expired,
    /// unless it was revoked.
    ///
    /// # Errors
    /// Without a standby, or with too many previous keys.
    pub(crate) fn promoted(
        &self,
        request: Option<String>,
        rules: &KeyringRules,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        if self.standby().is_none() {
            return Err(KeyringError::Inconsistent);
        }
        let mut keys = Vec::new();
        for mut key in self.keys.iter().cloned() {
            match key.verifying.state {
                KeyState::Standby => {
                    (key.verifying.state, key.verifying.since) = (KeyState::Current, now);
                    key.verifying.longest_token_seconds = rules.max_token_seconds;
                }
                KeyState::Current if self.revoked.contains_key(&key.verifying.kid) => continue,
                KeyState::Current => retire(&mut key, now, rules.grace_seconds),
                KeyState::Previous => {}
            }
            keys.push(key);
        }
        Self::new(self.version + 1, request, self.revoked.clone(), keys)
    }

    /// The next version without these keys, which then verify nothing. A revoked signing key stays in the Secret until
    /// its successor may sign; `fallback` becomes that successor if there is none.
    ///
    /// # Errors
    /// When the new key does not fit.
    pub(crate) fn revoking(
        &self,
        kids: &BTreeSet<Kid>,
        fallback: NewKey,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let mut revoked = self.revoked.clone();
        revoked.extend(kids.iter().map(|kid| (kid.clone(), now)));
        let stays = |k: &&SigningKey| k.verifying.state == KeyState::Current || !revoked.contains_key(&k.verifying.kid);
        let mut keys: Vec<SigningKey> = self.keys.iter().filter(stays).cloned().collect();
        let signs =
            keys.iter().any(|k| k.verifying.state == KeyState::Current && !revoked.contains_key(&k.verifying.kid));
        if !signs && !keys.iter().any(|k| k.verifying.state == KeyState::Standby) {
            keys.push(fallback.into_key(KeyState::Standby, now));
        }
        Self::new(self.version + 1, self.handled_request.clone(), revoked, keys)
    }

    /// The next version without expired keys and revocations, and with the longest lifetime of a signed token; `None`
    /// if nothing changes.
    pub(crate) fn tidied(&self, rules: &KeyringRules, now: Timestamp) -> Option<Self> {
        let over = |k: &SigningKey| k.verifying.verifies_until.is_some_and(|until| until <= now);
        let mut keys: Vec<SigningKey> = self.keys.iter().filter(|k| !over(k)).cloned().collect();
        for key in keys.iter_mut().filter(|k| k.verifying.state == KeyState::Current) {
            key.verifying.longest_token_seconds = key.verifying.longest_token_seconds.max(rules.max_token_seconds);
        }
        let listed = |at: &Timestamp| at.saturating_add(REVOKED_LISTED).is_ok_and(|end| end > now);
        // A revoked key that is still `Current` stays listed.
        let present = |kid: &Kid| keys.iter().any(|k| k.verifying.kid == *kid);
        let revoked: BTreeMap<_, _> = self
            .revoked
            .iter()
            .filter(|(kid, at)| listed(at) || present(kid))
            .map(|(k, at)| (k.clone(), *at))
            .collect();
        let same = keys == self.keys && revoked.len() == self.revoked.len();
        let next = || Self { version: self.version + 1, handled_request: self.handled_request.clone(), revoked, keys };
        (!same).then(next)
    }

    /// When [`Self::tidied`] will next change something.
    pub(crate) fn next_tidying(&self) -> Option<Timestamp> {
        let keys = self.keys.iter().filter_map(|k| k.verifying.verifies_until);
        let revoked = self.revoked.values().filter_map(|at| at.saturating_add(REVOKED_LISTED).ok());
        keys.chain(revoked).min()
    }
}

/// Rules for tokens and signers that determine how long keys verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyringRules {
    /// Longest `exp - iat` of a token, in seconds.
    pub max_token_seconds: i32,
    /// How long a signer may use a key after its replacement, in seconds.
    pub grace_seconds: i64,
}

/// Makes a key `Previous`.
fn retire(key: &mut SigningKey, now: Timestamp, grace_seconds: i64) {
    let life = i64::from(key.verifying.longest_token_seconds) + LEEWAY_SECONDS + grace_seconds;
    key.verifying.state = KeyState::Previous;
    key.verifying.since = now;
    key.verifying.verifies_until = Some(now.saturating_add(SignedDuration::from_secs(life)).unwrap_or(Timestamp::MAX));
    // The key never signs again.
    key.private = None;
}

/// The part of a keyring in the registry entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedKeyring<'a> {
    /// Version of the keyring.
    pub version: i32,
    /// The last rotation request that was fulfilled.
    pub request: Option<&'a str>,
    /// Revoked kids, and when each was.
    pub revoked: &'a BTreeMap<Kid, Timestamp>,
    /// The keys that verify.
    pub keys: &'a [VerificationKey],
}

impl PublishedKeyring<'_> {
    /// What the ledger repeats of this keyring. Key bytes are part of the hash: they are random and at least 256 bits
    /// long, so the hash reveals nothing about them.
    pub fn mark(&self) -> KeyringMark {
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        KeyringMark { version: self.version, digest: super::behaviour::short_hash(&[b"ring\0", &bytes]) }
    }
}

#[cfg(test)]
mod tests;
