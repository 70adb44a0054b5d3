//! Those who use an installation from outside: who signs tokens, and who types commands.

use super::fleet::Fleet;
use agent_tenancy::api::names;
use anyhow::Context as _;
use base64::{Engine, prelude::BASE64_STANDARD};
use devkit::Environment;
use jsonwebtoken::{EncodingKey, Header, encode};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use std::time::SystemTime;

/// What a signer reads.
#[derive(Clone)]
pub struct Signer {
    pub kid: String,
    algorithm: jsonwebtoken::Algorithm,
    key: Vec<u8>,
}

impl Signer {
    /// As a signer of this tenant reads it now.
    pub async fn of(fleet: &Fleet, tenant: &str) -> anyhow::Result<Self> {
        Self::read(&fleet.secrets.get(&format!("{tenant}-signing-keys")).await?)
    }

    /// From a signing Secret.
    pub fn read(secret: &Secret) -> anyhow::Result<Self> {
        let data = secret.data.as_ref().context("the Secret has data")?;
        let text = |key: &str| -> anyhow::Result<String> {
            Ok(String::from_utf8(data.get(key).context("a key of the Secret")?.0.clone())?)
        };
        Ok(Self {
            kid: text(names::CURRENT_KID)?,
            algorithm: text(names::CURRENT_ALG)?.parse()?,
            key: data.get(names::CURRENT_KEY).context("current.key")?.0.clone(),
        })
    }

    /// The private key in its PEM.
    fn pkcs8(&self) -> anyhow::Result<Vec<u8>> {
        let text = std::str::from_utf8(&self.key)?;
        let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        Ok(BASE64_STANDARD.decode(lines)?)
    }

    /// A token of a minute.
    pub fn token(&self, tenant: &str) -> anyhow::Result<String> {
        self.token_of(tenant, "load", None)
    }

    /// The same, of this user and for these scopes.
    pub fn token_of(&self, tenant: &str, sub: &str, scope: Option<&str>) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let mut claims = json!({ "iss": "agent-tenancy", "aud": "agent-api", "sub": sub, "iat": now, "exp": now + 60,
                                 "tenant_id": tenant });
        if let Some(scope) = scope {
            claims["scope"] = scope.into();
        }
        let key = match self.algorithm {
            jsonwebtoken::Algorithm::HS256 => EncodingKey::from_secret(&self.key),
            jsonwebtoken::Algorithm::EdDSA => EncodingKey::from_ed_der(&self.pkcs8()?),
            _ => EncodingKey::from_ec_der(&self.pkcs8()?),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        Ok(encode(&header, &claims, &key)?)
    }
}

/// One question of a user, or the whole history; what the replica answered.
pub async fn ask(url: &str, tenant: &str, token: &str, message: Option<&str>) -> anyhow::Result<(u16, String)> {
    let url = format!("{url}/api/v1/tenants/{tenant}/chat");
    let client = reqwest::Client::new();
    let request = match message {
        Some(message) => client.post(url).json(&json!({ "message": message })),
        None => client.get(url),
    };
    let answer = request.bearer_auth(token).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// The same, with a token of the key that signs now.
pub async fn ask_now(fleet: &Fleet, tenant: &str, url: &str, message: Option<&str>) -> anyhow::Result<(u16, String)> {
    ask(url, tenant, &Signer::of(fleet, tenant).await?.token(tenant)?, message).await
}

/// Runs the kubectl plugin; whether it went well, and all it said.
pub async fn plugin(args: &[&str]) -> anyhow::Result<(bool, String)> {
    let program = env!("CARGO_BIN_EXE_kubectl-tenant");
    let kubeconfig = Environment::shared().await?.kubeconfig_path()?;
    let output = tokio::process::Command::new(program).args(args).env("KUBECONFIG", kubeconfig).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}
