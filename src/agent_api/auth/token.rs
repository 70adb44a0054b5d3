//! Verifying a token. Every rule is written out here, because libraries check only claims that are present.
//!
//! RFC 7519 (JWT), RFC 8725 (best practice), RFC 9068 (shape of `scope` and `typ`). The algorithm is the key's, never
//! the token's; the key belongs to one tenant, and its tokens are valid for that tenant only.

use super::scope::Scope;
use crate::{
    agent_api::{
        json::from_object,
        registry::{Snapshot, tenant::VerifyKey},
    },
    domain::{
        ident::TenantId,
        keyring::LEEWAY_SECONDS,
        keys::{Algorithm, Kid},
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest `sub`, in bytes.
const MAX_SUB_BYTES: usize = 255;

/// A verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaims {
    /// The tenant; it owns the key.
    pub tenant: TenantId,
    /// The user.
    pub sub: String,
    /// What the token allows; `None`: the user's own chat.
    pub scope: Option<String>,
}

impl VerifiedClaims {
    /// Whether the token allows this. A token without `scope` allows the user's own chat.
    pub fn allows(&self, scope: Scope) -> bool {
        match &self.scope {
            None => !scope.has_to_be_named(),
            Some(named) => named.split(' ').any(|word| word == scope.as_str()),
        }
    }
}

/// Why a token is refused. For logs and metrics; clients see one answer for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Too long, not three parts, not base64, not JSON, or a claim is missing or of the wrong type.
    #[error("malformed")]
    Malformed,
    /// A header that must not be there, or a wrong `typ`.
    #[error("forbidden header")]
    Header,
    /// No key with this `kid`.
    #[error("unknown key")]
    UnknownKey,
    /// `alg` is not the key's.
    #[error("wrong algorithm")]
    Algorithm,
    /// The signature doesn't fit.
    #[error("wrong signature")]
    Signature,
    /// `iss` or `aud` is not the tenant's.
    #[error("wrong issuer or audience")]
    Audience,
    /// Expired, not valid yet, from the future, or made for too long.
    #[error("outside its time")]
    Time,
    /// `tenant_id` is not the tenant that owns the key.
    #[error("the key belongs to another tenant")]
    ForeignKey,
}

impl TokenError {
    /// Label value for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::UnknownKey => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Time => "time",
            Self::ForeignKey => "foreign_key",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Kid,
    #[serde(default)]
    typ: Option<String>,
    // Present in any form, these are refused: we understand no critical extension, and keys come from the registry only.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    jku: bool,
    #[serde(default, deserialize_with = "present")]
    jwk: bool,
    #[serde(default, deserialize_with = "present")]
    x5u: bool,
    #[serde(default, deserialize_with = "present")]
    x5c: bool,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
struct RawClaims {
    iss: String,
    aud: OneOrMany,
    sub: String,
    exp: NumericDate,
    iat: NumericDate,
    tenant_id: String,
    #[serde(default)]
    nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "present_text")]
    scope: Option<String>,
}

/// A claim that may be absent, but is a text where it is present: `null` is neither.
fn present_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Seconds since 1970; fractions are allowed by RFC 7519 and cut here.
struct NumericDate(i64);

impl<'de> Deserialize<'de> for NumericDate {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be far inside the range")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if (0.0..1e12).contains(&seconds) {
            Ok(Self(seconds as i64))
        } else {
            Err(serde::de::Error::custom("not a date"))
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    from_object(&bytes).map_err(|_| TokenError::Malformed)
}

/// Verifies a token against the keys of a snapshot; `now` is in seconds since 1970.
///
/// # Errors
/// The first rule that it breaks.
pub fn verify(token: &str, snapshot: &Snapshot, now: i64) -> Result<VerifiedClaims, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if payload.contains('.') {
        return Err(TokenError::Malformed);
    }
    let header: Header = decode(header)?;
    let Header { alg, kid, typ, crit, jku, jwk, x5u, x5c } = header;
    if crit || jku || jwk || x5u || x5c || !typ.is_none_or(|t| is_token_type(&t)) {
        return Err(TokenError::Header);
    }
    let key = snapshot.keys.get(&kid).ok_or(TokenError::UnknownKey)?;
    check_signature(key, &alg, signed, signature)?;
    check_claims(key, decode(payload)?, now)
}

/// Media types in `typ` are compared without regard to case, and may carry their prefix (RFC 7515, 4.1.9).
fn is_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn check_signature(key: &Arc<VerifyKey>, alg: &str, signed: &str, signature: &str) -> Result<(), TokenError> {
    let algorithm = match key.algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
    };
    if alg != key.algorithm.as_str() {
        return Err(TokenError::Algorithm);
    }
    match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(TokenError::Signature),
    }
}

fn check_claims(key: &VerifyKey, claims: RawClaims, now: i64) -> Result<VerifiedClaims, TokenError> {
    let RawClaims { iss, aud, sub, exp, iat, tenant_id, nbf, scope } = claims;
    let audience = match &aud {
        OneOrMany::One(one) => **one == *key.rules.audience,
        OneOrMany::Many(many) => many.iter().any(|one| **one == *key.rules.audience),
    };
    if *iss != *key.rules.issuer || !audience {
        return Err(TokenError::Audience);
    }
    let (NumericDate(exp), NumericDate(iat)) = (exp, iat);
    let lifetime = exp - iat;
    let started = nbf.is_none_or(|NumericDate(nbf)| nbf <= now + LEEWAY_SECONDS);
    let in_time = now < exp + LEEWAY_SECONDS && iat <= now + LEEWAY_SECONDS && started;
    if !in_time || lifetime <= 0 || lifetime > i64::from(key.rules.max_token_seconds) {
        return Err(TokenError::Time);
    }
    if tenant_id != key.tenant.as_str() {
        return Err(TokenError::ForeignKey);
    }
    if sub.is_empty() || sub.len() > MAX_SUB_BYTES || sub.contains('\0') {
        return Err(TokenError::Malformed);
    }
    Ok(VerifiedClaims { tenant: key.tenant.clone(), sub, scope })
}

#[cfg(test)]
mod tests;
