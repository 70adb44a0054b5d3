//! Signing keys: id, bytes, algorithm, state, and the part of a key that verifies.

/// How a key signs. Each key has one algorithm; the token's header does not choose it.
pub use crate::api::SigningAlgorithm as Algorithm;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Minimum length of an HS256 key (RFC 7518, 3.2), and the length of new ones.
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

    /// A kid from random bytes in unpadded base64url. Other characters are dropped.
    pub(crate) fn of_base64url(text: &str) -> Self {
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

/// Raw key bytes. They are wiped from memory on drop and never displayed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes(Vec<u8>);

impl KeyBytes {
    /// Wraps bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for signing, verifying and writing into a Secret.
    pub(crate) fn expose(&self) -> &[u8] {
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
        // The decoder's message would quote a byte of the key.
        let bytes = BASE64_STANDARD.decode(&text).map_err(|_| serde::de::Error::custom("key bytes must be base64"));
        text.zeroize();
        bytes.map(Self)
    }
}

/// Whether these bytes can verify: a secret of at least 32 bytes, a raw Ed25519 public key (RFC 8032), an uncompressed
/// P-256 point (SEC 1, 2.3.3).
pub(crate) fn can_verify(algorithm: Algorithm, verifying: &KeyBytes) -> bool {
    let bytes = verifying.expose();
    match algorithm {
        Algorithm::HS256 => bytes.len() >= HS256_KEY_BYTES,
        Algorithm::EdDSA => bytes.len() == 32,
        Algorithm::ES256 => bytes.len() == 65 && bytes.first() == Some(&4),
    }
}

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyState {
    /// Verifies and does not sign yet.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies until the last token it signed has expired.
    Previous,
}

/// The part of a key that verifies a tenant's tokens, as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationKey {
    /// Id of the key.
    pub kid: Kid,
    /// The only algorithm that it verifies.
    pub algorithm: Algorithm,
    /// State of the key.
    pub state: KeyState,
    /// When it entered this state.
    pub since: jiff::Timestamp,
    /// Longest `exp - iat`, in seconds, of the tokens that it may have signed; 0 before it signs.
    #[serde(default)]
    pub longest_token_seconds: i32,
    /// When a `Previous` key stops verifying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifies_until: Option<jiff::Timestamp>,
    /// The secret (HS256) or the public key.
    pub key: KeyBytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_key_bytes() {
        assert!(!format!("{:?}", KeyBytes::new(vec![7; 32])).contains('7'));
    }

    #[test]
    fn each_algorithm_checks_the_form_of_its_keys() {
        let bytes = |n: usize, first: u8| KeyBytes::new(std::iter::once(first).chain(vec![1; n - 1]).collect());
        assert!(can_verify(Algorithm::HS256, &bytes(32, 1)) && !can_verify(Algorithm::HS256, &bytes(31, 1)));
        assert!(can_verify(Algorithm::EdDSA, &bytes(32, 1)) && !can_verify(Algorithm::EdDSA, &bytes(33, 1)));
        assert!(can_verify(Algorithm::ES256, &bytes(65, 4)) && !can_verify(Algorithm::ES256, &bytes(65, 2)));
    }
}
