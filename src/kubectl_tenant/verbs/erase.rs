//! `erase`: erasing one user of a tenant.

use crate::{
    domain::class::ErrorClass,
    kubectl_tenant::{
        clients::agent_api::{AgentApiArgs, AgentApiClient},
        cluster::Cluster,
        error::{PluginError, VerbFailure},
    },
};
use serde::Deserialize;

/// Erase one user of a Tenant through the agent API (requires permission to read the Tenant's Secret)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EraseArgs {
    /// Name of the Tenant
    name: String,
    #[command(flatten)]
    agent_api: AgentApiArgs,
    /// The user to erase (the `sub` of their tokens)
    #[arg(long, value_name = "SUB")]
    sub: String,
    /// Confirms the deletion, which can't be undone
    #[arg(long)]
    yes: bool,
}

#[derive(Deserialize)]
struct Erased {
    conversations: i64,
    messages: i64,
    renamed: i64,
}

/// Erases a user. Running it again completes an interrupted deletion.
pub(crate) async fn run(cluster: &Cluster, args: &EraseArgs) -> Result<String, VerbFailure> {
    if !args.yes {
        let text = format!("this deletes every conversation of '{}' permanently; confirm with --yes", args.sub);
        return Err(PluginError::new(ErrorClass::Invalid, text).into());
    }
    let api = AgentApiClient::new(cluster, &args.name, &args.agent_api).await?;
    let answer = api.call(reqwest::Method::DELETE, &["users", &args.sub], &[], "data:erase").await?;
    let Erased { conversations, messages, renamed } = serde_json::from_str(&answer)
        .map_err(|e| PluginError::new(ErrorClass::Bug, format!("can't read the agent API's answer: {e}")))?;
    Ok(format!(
        "user '{}' erased: {conversations} conversations with {messages} messages deleted, {renamed} rows renamed\n",
        args.sub
    ))
}
