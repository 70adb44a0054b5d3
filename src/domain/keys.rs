//! Signing keys: a tenant's keyring, and how it lies in its Secret.
//!
//! The Secret's layout is API: `current.kid` and `current.key` for those who sign, `ring.json` for the operator.

use crate::api::names;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Fewest bytes of an HS256 key (RFC 7518, 3.2), and what we make.
pub const HS256_KEY_BYTES: usize = 32;

/// Id of a key: random and globally unique, 1 to 64 characters of `A-Za-z0-9_-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kid(String);

impl Kid {
    /// Parses a kid; `None` if it breaks the grammar.
    pub fn parse(text: &str) -> Option<Self> {
        let ok =
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        ok.then(|| Self(text.to_owned()))
    }

    /// A kid of random bytes in unpadded base64url; other characters are left out.
    pub fn of_base64url(text: &str) -> Self {
        Self(text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(64).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Kid> for String {
    fn from(kid: Kid) -> Self {
        kid.0
    }
}

impl TryFrom<String> for Kid {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("must be 1 to 64 characters of 'A-Z', 'a-z', '0-9', '_' and '-'")
    }
}

/// Raw key bytes. Wiped from memory when dropped, never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    /// Wraps bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for signing, verifying and writing into a Secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(…)")
    }
}

impl Serialize for KeyBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = BASE64_STANDARD.encode(&self.0);
        let done = serializer.serialize_str(&text);
        text.zeroize();
        done
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        // The decoder's own message would quote a byte of the key.
        let bytes = BASE64_STANDARD.decode(&text).map_err(|_| serde::de::Error::custom("key bytes must be base64"));
        text.zeroize();
        bytes.map(Self)
    }
}

/// How a key signs. Pinned per key, never taken from a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
}

/// Where in its life a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyState {
    /// Published for verifying, does not sign yet.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies until the last token it signed has expired.
    Previous,
}

/// One key of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Its id.
    pub kid: Kid,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Where in its life it is.
    pub state: KeyState,
    /// The key itself.
    pub key: KeyBytes,
}

/// A tenant's keys. Exactly one is `Current`; kids differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    /// Counts changes of the ring; the ledger repeats it.
    version: i32,
    keys: Vec<SigningKey>,
}

/// Why the content of a signing Secret is not a keyring. Never quotes the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A key of the Secret is missing.
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// A value does not parse.
    #[error("'{0}' is damaged")]
    Damaged(&'static str),
    /// The keys contradict each other.
    #[error("'ring.json' must hold exactly one Current key, distinct kids, and keys of at least 32 bytes")]
    Inconsistent,
    /// `current.*` is not the ring's current key.
    #[error("'current.kid' or 'current.key' is not the ring's Current key")]
    Mismatch,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRing {
    version: i32,
    keys: Vec<SigningKey>,
}

impl Keyring {
    /// A ring of these keys.
    ///
    /// # Errors
    /// When there is not exactly one current key, kids repeat, or a key is too short.
    pub fn new(version: i32, keys: Vec<SigningKey>) -> Result<Self, KeyringError> {
        let current = keys.iter().filter(|k| k.state == KeyState::Current).count();
        let kids: std::collections::BTreeSet<_> = keys.iter().map(|k| &k.kid).collect();
        let long_enough = keys.iter().all(|k| k.key.expose().len() >= HS256_KEY_BYTES);
        if current != 1 || kids.len() != keys.len() || !long_enough || version < 1 {
            return Err(KeyringError::Inconsistent);
        }
        Ok(Self { version, keys })
    }

    /// The ring of a new tenant. Its first key is current at once: nobody signs before the tenant is served.
    ///
    /// # Errors
    /// When the key is too short.
    pub fn first(kid: Kid, key: KeyBytes) -> Result<Self, KeyringError> {
        Self::new(1, vec![SigningKey { kid, algorithm: Algorithm::HS256, state: KeyState::Current, key }])
    }

    /// Counts changes of the ring.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// All keys.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The key that signs.
    pub fn current(&self) -> Option<&SigningKey> {
        self.keys.iter().find(|k| k.state == KeyState::Current)
    }

    /// Renders the Secret's data.
    pub fn render_secret(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        if let Some(current) = self.current() {
            data.insert(names::CURRENT_KID.to_owned(), current.kid.as_str().as_bytes().to_vec());
            data.insert(names::CURRENT_KEY.to_owned(), current.key.expose().to_vec());
        }
        data.insert(names::RING.to_owned(), serde_json::to_vec(self).unwrap_or_default());
        data
    }

    /// Parses the Secret's data.
    ///
    /// # Errors
    /// When a part is missing, damaged or contradicts another.
    pub fn parse_secret<'a>(read: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, KeyringError> {
        let ring = read(names::RING).ok_or(KeyringError::Missing(names::RING))?;
        let raw: RawRing = serde_json::from_slice(ring).map_err(|_| KeyringError::Damaged(names::RING))?;
        let ring = Self::new(raw.version, raw.keys)?;
        let kid = read(names::CURRENT_KID).ok_or(KeyringError::Missing(names::CURRENT_KID))?;
        let key = read(names::CURRENT_KEY).ok_or(KeyringError::Missing(names::CURRENT_KEY))?;
        match ring.current() {
            Some(current) if current.kid.as_str().as_bytes() == kid && current.key.expose() == key => Ok(ring),
            _ => Err(KeyringError::Mismatch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Keyring {
        Keyring::first(Kid::parse("k1").unwrap(), KeyBytes::new(vec![7; 32])).unwrap()
    }

    #[test]
    fn a_ring_survives_its_secret() {
        let data = ring().render_secret();
        let read = Keyring::parse_secret(|k| data.get(k).map(Vec::as_slice)).unwrap();
        assert_eq!(read, ring());
    }

    #[test]
    fn an_edited_secret_is_named_but_never_quoted() {
        let mut data = ring().render_secret();
        data.insert("current.key".into(), b"swapped-by-hand-swapped-by-hand-".to_vec());
        let error = Keyring::parse_secret(|k| data.get(k).map(Vec::as_slice)).unwrap_err();
        assert_eq!(error, KeyringError::Mismatch);
        data.insert(
            "ring.json".into(),
            br#"{"version":1,"keys":[{"kid":"x","algorithm":"HS256","state":"Current","key":"!!canary!!"}]}"#.to_vec(),
        );
        let error = Keyring::parse_secret(|k| data.get(k).map(Vec::as_slice)).unwrap_err();
        assert!(!error.to_string().contains("canary"));
    }

    #[test]
    fn key_bytes_are_never_shown() {
        assert!(!format!("{:?}", ring()).contains('7'));
    }
}
