//! Keys, tokens and kubeconfig files.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams};

/// Long enough for a demo that stays up for a working day.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// A new P-256 key pair as PEM, private (PKCS #8) and public: signs the cluster's service account tokens.
///
/// Both, because the API server doesn't take the public half out of a PKCS #8 file.
pub(crate) fn signing_key_pems() -> anyhow::Result<(String, String)> {
    let make = || {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref())?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        Ok((pem("PRIVATE KEY", pkcs8.as_ref()), pem("PUBLIC KEY", public.as_ref())))
    };
    make().map_err(|_: Unspecified| anyhow::anyhow!("no signing key can be made"))
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Writes a file that only this user can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))
}

/// Writes a kubeconfig that carries a bearer token.
pub(crate) fn write_kubeconfig(
    path: &Path,
    server: &str,
    ca: &Path,
    user: &str,
    token: &str,
    namespace: &str,
) -> anyhow::Result<()> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "devkit", "cluster": { "server": server, "certificate-authority": ca } }],
        "users": [{ "name": user, "user": { "token": token } }],
        "contexts": [{ "name": "devkit", "context": { "cluster": "devkit", "user": user, "namespace": namespace } }],
        "current-context": "devkit",
    });
    write_secret(path, &serde_yaml::to_string(&config)?)
}

/// A token for that ServiceAccount from the TokenRequest API.
pub(crate) async fn service_account_token(client: Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..Default::default() };
    let request = TokenRequest { spec, ..Default::default() };
    let reply = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let reply = reply.with_context(|| format!("no token for the ServiceAccount {namespace}/{name}"))?;
    Ok(reply.status.context("the token request was answered without a token")?.token)
}

/// `<dir>/<namespace>-<name>.kubeconfig`.
pub(crate) fn service_account_file(dir: &Path, namespace: &str, name: &str) -> PathBuf {
    dir.join(format!("{namespace}-{name}.kubeconfig"))
}
