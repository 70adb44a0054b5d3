//! `wait`: waiting until a Tenant is ready or deleted.

use crate::{
    api::names,
    kubectl_tenant::{
        cluster::Cluster,
        duration::parse_duration,
        error::VerbFailure,
        wait::{result::Goal, watch::wait},
    },
};
use std::time::Duration;

/// Wait until a Tenant is ready or deleted
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Name of the Tenant
    name: String,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = Goal::Ready)]
    goal: Goal,
    /// Longest wait, e.g. 90, 90s, 5m or 1h30m; 0 checks once
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(cluster: &Cluster, args: &WaitArgs) -> Result<String, VerbFailure> {
    let word = wait(cluster, &args.name, args.goal, args.timeout).await?;
    Ok(format!("tenant.{}/{} {word}\n", names::GROUP, args.name))
}
