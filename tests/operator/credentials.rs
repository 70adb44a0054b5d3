//! A provider's credential that is replaced in its Secret is used without a wait for the next periodic reconcile.

use super::installation::{Installation, LONG};
use devkit::{Environment, PgVersion, Postgres, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An AgentConfig `support` with a provider's credential in the Secret `provider`, and these settings.
async fn scene(check_seconds: u64) -> anyhow::Result<Installation> {
    let settings = json!({ "agentApi": { "replicaSource": "Leases" }, "credentialCheckSeconds": check_seconds });
    let (env, server) = (Environment::shared().await?, Postgres::shared(PgVersion::NEWEST).await?);
    let installation = Installation::with(env, &server, settings).await?;
    let provider = json!({
        "type": "OpenAICompatible", "baseUrl": "https://models.example/v1",
        "apiKeySecretRef": { "name": "provider", "key": "key" },
    });
    installation.agent("support", "You help.").await?;
    patch_agent(&installation, json!({ "spec": { "provider": provider } })).await?;
    Ok(installation)
}

async fn patch_agent(installation: &Installation, patch: Value) -> anyhow::Result<()> {
    installation.agents.patch("support", &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn write_key(installation: &Installation, key: &str) -> anyhow::Result<()> {
    let content: BTreeMap<String, String> = [("key".to_owned(), key.to_owned())].into();
    let metadata = ObjectMeta { name: Some("provider".to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, string_data: Some(content), ..Secret::default() };
    match installation.secrets.get_opt("provider").await? {
        None => installation.secrets.create(&PostParams::default(), &secret).await?,
        Some(_) => installation.secrets.patch("provider", &PatchParams::default(), &Patch::Merge(&secret)).await?,
    };
    Ok(())
}

/// Waits until the AgentConfig's entry refers to one credential, and returns it.
async fn published(installation: &Installation, but_not: Option<&str>) -> anyhow::Result<String> {
    eventually(LONG, "the credential is published", || async {
        let agents = installation.entries("agent").await?;
        anyhow::ensure!(agents.len() == 1, "{agents:?}");
        let entry = installation.entry(&agents[0]).await?;
        let upstream = entry["current"]["upstream"].as_str().unwrap_or_default().to_owned();
        anyhow::ensure!(!upstream.is_empty() && Some(upstream.as_str()) != but_not, "{entry}");
        Ok(upstream)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_credential_is_found() -> anyhow::Result<()> {
    let installation = scene(1).await?;
    let _operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    // Also one that is created after its AgentConfig.
    write_key(&installation, "sk-first").await?;
    let first = published(&installation, None).await?;
    write_key(&installation, "sk-second").await?;
    let second = published(&installation, Some(&first)).await?;
    // A Secret that is deleted and recreated.
    installation.secrets.delete("provider", &DeleteParams::default()).await?;
    write_key(&installation, "sk-third").await?;
    published(&installation, Some(&second)).await?;
    // The replaced ones are deleted, and nothing is written for a Secret that stays as it is.
    eventually(LONG, "one credential is left", || async {
        let upstreams = installation.entries("upstream").await?;
        anyhow::ensure!(upstreams.len() == 1, "{upstreams:?}");
        Ok(())
    })
    .await?;
    super::installation_state::settle(&installation).await
}

/// Any annotation, as `kubectl annotate` sets it to have an object reconciled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_annotation_starts_a_reconcile() -> anyhow::Result<()> {
    let installation = scene(86_400).await?;
    let _operator = installation.operator("one").await?;
    write_key(&installation, "sk-first").await?;
    let touched = json!({ "metadata": { "annotations": { "example.com/reconcile": "1" } } });
    patch_agent(&installation, touched).await?;
    let first = published(&installation, None).await?;
    write_key(&installation, "sk-second").await?;
    let touched = json!({ "metadata": { "annotations": { "example.com/reconcile": "2" } } });
    patch_agent(&installation, touched).await?;
    published(&installation, Some(&first)).await?;
    Ok(())
}
