//! `token`: a short-lived token for a Tenant, signed with its current key.

use crate::{
    clock::Clock,
    kubectl_tenant::{
        clients::token::{TokenArgs, project_claims, project_token},
        cluster::Cluster,
        error::VerbFailure,
        observe::{observe_existing, observe_keyring},
    },
};

/// Print a short-lived token for a Tenant, signed with its current key (requires permission to read the Tenant's Secret)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenVerbArgs {
    /// Name of the Tenant
    name: String,
    #[command(flatten)]
    token: TokenArgs,
}

pub(crate) async fn run(cluster: &Cluster, args: &TokenVerbArgs) -> Result<String, VerbFailure> {
    let tenant = observe_existing(cluster, &args.name).await?;
    let claims = project_claims(&tenant, &args.token, Clock::system().now())?;
    let keyring = observe_keyring(&cluster.client, &tenant).await?;
    if claims.seconds() < args.token.seconds {
        eprintln!("note: valid for {} s, the maximum for this Tenant", claims.seconds());
    }
    Ok(project_token(&keyring, &claims)? + "\n")
}
