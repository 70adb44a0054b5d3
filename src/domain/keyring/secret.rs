//! The layout of a keyring in its Secret.

use super::{Keyring, KeyringError, SigningKey};
use crate::{api::names, domain::keys::Kid};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKeyring {
    version: i32,
    #[serde(default)]
    handled_request: Option<String>,
    #[serde(default)]
    revoked: BTreeMap<Kid, Timestamp>,
    keys: Vec<SigningKey>,
}

impl Keyring {
    /// Renders the Secret's data. Without a current key there is no `current.*`.
    pub fn render_secret(&self) -> BTreeMap<String, Vec<u8>> {
        let mut data = BTreeMap::new();
        if let Some(current) = self.current() {
            data.insert(names::CURRENT_KID.to_owned(), current.verifying.kid.as_str().as_bytes().to_vec());
            data.insert(names::CURRENT_KEY.to_owned(), render_current(current));
            data.insert(names::CURRENT_ALG.to_owned(), current.verifying.algorithm.as_str().as_bytes().to_vec());
        }
        data.insert(names::KEYRING.to_owned(), serde_json::to_vec(self).unwrap_or_default());
        data
    }

    /// Parses the Secret's data.
    ///
    /// # Errors
    /// When a part is missing, damaged or contradicts another.
    pub fn parse_secret<'a>(read: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, KeyringError> {
        let keyring = read(names::KEYRING).ok_or(KeyringError::Missing(names::KEYRING))?;
        let raw: RawKeyring = serde_json::from_slice(keyring).map_err(|_| KeyringError::Damaged(names::KEYRING))?;
        let keyring = Self::new(raw.version, raw.handled_request, raw.revoked, raw.keys)?;
        let parts = [names::CURRENT_KID, names::CURRENT_KEY, names::CURRENT_ALG];
        let wanted = keyring.render_secret();
        for part in parts {
            match (wanted.get(part), read(part)) {
                (Some(_), None) => return Err(KeyringError::Missing(part)),
                (Some(wanted), Some(found)) if wanted == found => {}
                (None, None) => {}
                (Some(_) | None, Some(_)) => return Err(KeyringError::Mismatch),
            }
        }
        Ok(keyring)
    }
}

/// The key for signers: the raw secret, or the private key as PEM (RFC 7468), which every JWT library accepts.
fn render_current(key: &SigningKey) -> Vec<u8> {
    match &key.private {
        None => key.verifying.key.expose().to_vec(),
        Some(private) => {
            let text = Zeroizing::new(BASE64_STANDARD.encode(private.expose()));
            let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|l| std::str::from_utf8(l).ok()).collect();
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")).into_bytes()
        }
    }
}
