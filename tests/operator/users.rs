//! What users of an installation do: they chat, and they run commands.

use super::installation::Installation;
use devkit::{CommandOutput, Environment, run_command};
use serde_json::json;
use std::process::Command;

/// Sends a chat message, or reads the history without one. Returns the status and the body of the answer.
pub async fn ask(url: &str, tenant: &str, token: &str, message: Option<&str>) -> anyhow::Result<(u16, String)> {
    let url = format!("{url}/api/v1/tenants/{tenant}/chat");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = match message {
        Some(message) => client.post(url).json(&json!({ "message": message })),
        None => client.get(url),
    };
    let answer = request.bearer_auth(token).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// The same, with a token of the tenant's current key.
pub async fn ask_now(
    installation: &Installation,
    tenant: &str,
    url: &str,
    message: Option<&str>,
) -> anyhow::Result<(u16, String)> {
    ask(url, tenant, &installation.token(tenant).await?, message).await
}

/// Runs the kubectl plugin as the administrator of the shared control plane.
pub async fn plugin(args: &[&str]) -> anyhow::Result<CommandOutput> {
    plugin_with(args, "").await
}

/// The same, with this standard input.
pub async fn plugin_with(args: &[&str], input: &str) -> anyhow::Result<CommandOutput> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-tenant"));
    command.env("KUBECONFIG", Environment::shared().await?.kubeconfig_path()?);
    run_command(command, args, Some(input)).await
}
