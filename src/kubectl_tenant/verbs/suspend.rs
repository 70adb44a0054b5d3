//! `suspend` and `resume`: one field of the spec, and waiting until every replica acts on it.

use crate::{
    api::{Tenant, names},
    kubectl_tenant::{
        cluster::Cluster,
        duration::parse_duration,
        error::{PluginError, VerbFailure},
        observe::observe_existing,
        wait::{result::Goal, watch::wait},
    },
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;

/// Take a Tenant out of service: requests are refused, data and keys are kept (requires permission to patch the Tenant)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SuspendArgs {
    #[command(flatten)]
    pub(crate) tenant: SuspensionArgs,
}

/// Bring a suspended Tenant back into service (requires permission to patch the Tenant)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) tenant: SuspensionArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SuspensionArgs {
    /// Name of the Tenant
    name: String,
    /// Longest wait, e.g. 90, 90s, 5m or 1h30m; 0 does not wait
    #[arg(long, default_value = "90s", value_parser = parse_duration)]
    timeout: Duration,
}

/// Sets `spec.suspend` and waits until every replica acts on it; with a timeout of 0 it does not wait.
pub(crate) async fn run(cluster: &Cluster, args: &SuspensionArgs, suspend: bool) -> Result<String, VerbFailure> {
    let tenant = observe_existing(cluster, &args.name).await?;
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let api = Api::<Tenant>::namespaced(cluster.client.clone(), &namespace);
    let patch = Patch::Merge(json!({ "spec": { "suspend": suspend } }));
    api.patch(&name, &PatchParams::default(), &patch)
        .await
        .map_err(|e| PluginError::of_kube(&e, &format!("patch the Tenant {namespace}/{name}")))?;
    let word = match (args.timeout.is_zero(), suspend) {
        (true, _) => "requested",
        (false, true) => "suspended",
        (false, false) => "resumed",
    };
    if !args.timeout.is_zero() {
        let cluster = Cluster { client: cluster.client.clone(), namespace: Some(namespace), namespace_is_given: false };
        wait(&cluster, &name, Goal::Ready, args.timeout).await?;
    }
    Ok(format!("tenant.{}/{name} {word}\n", names::GROUP))
}
