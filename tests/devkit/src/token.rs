//! Tokens as a tenant's users bring them, signed with a key of the tenant.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

/// A key that signs, as a tenant's signing Secret holds it.
#[derive(Clone)]
pub struct SigningKey {
    /// Its id, which goes into the header of a token.
    pub kid: String,
    algorithm: Algorithm,
    /// Bytes of an HS256 key; of the others the PEM of the private key.
    bytes: Vec<u8>,
}

impl SigningKey {
    /// An HS256 key.
    pub fn hs256(kid: impl Into<String>, bytes: Vec<u8>) -> SigningKey {
        SigningKey { kid: kid.into(), algorithm: Algorithm::HS256, bytes }
    }

    /// The current key in a tenant's signing Secret.
    pub fn from_secret(secret: &Secret) -> anyhow::Result<SigningKey> {
        let data = secret.data.as_ref().context("the signing Secret has no data")?;
        let field = |name: &str| {
            let bytes = data.get(name).map(|bytes| bytes.0.clone());
            bytes.with_context(|| format!("the signing Secret has no {name}"))
        };
        Ok(SigningKey {
            kid: String::from_utf8(field("current.kid")?)?,
            algorithm: String::from_utf8(field("current.alg")?)?.parse()?,
            bytes: field("current.key")?,
        })
    }

    fn encoding_key(&self) -> anyhow::Result<EncodingKey> {
        Ok(match self.algorithm {
            Algorithm::HS256 => EncodingKey::from_secret(&self.bytes),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&self.pkcs8()?),
            _ => EncodingKey::from_ec_der(&self.pkcs8()?),
        })
    }

    fn pkcs8(&self) -> anyhow::Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.bytes)?;
        let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        Ok(BASE64_STANDARD.decode(lines)?)
    }
}

/// A token before it is signed. It is valid from now on, for a minute by default.
#[derive(Clone, Debug)]
pub struct TestToken {
    claims: Value,
    lifetime: u64,
}

impl TestToken {
    /// For user `sub` of a tenant, with issuer and audience as Tenants have them by default.
    pub fn new(tenant: &str, sub: &str) -> TestToken {
        let claims = json!({ "iss": "agent-tenancy", "aud": "agent-api", "sub": sub, "tenant_id": tenant });
        TestToken { claims, lifetime: 60 }
    }

    /// For these scopes, separated by blanks.
    #[must_use]
    pub fn scope(self, scope: &str) -> TestToken {
        self.claim("scope", scope)
    }

    /// Valid for so long.
    #[must_use]
    pub fn seconds(self, lifetime: u64) -> TestToken {
        TestToken { lifetime, ..self }
    }

    /// Sets any claim, also one that is set already, such as `exp`.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> TestToken {
        self.claims[name] = value.into();
        self
    }

    /// Signs it.
    pub fn sign(self, key: &SigningKey) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut claims = json!({ "iat": now, "exp": now + self.lifetime });
        if let (Some(all), Value::Object(own)) = (claims.as_object_mut(), self.claims) {
            all.extend(own);
        }
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(key.algorithm) };
        Ok(encode(&header, &claims, &key.encoding_key()?)?)
    }
}
