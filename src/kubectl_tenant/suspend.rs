//! Taking a tenant out of service and bringing it back: one field of the spec, and waiting until it is so.

use super::{
    cluster::Cluster,
    error::PluginError,
    observe::observe_existing,
    wait::{Unreached, wait},
    wait_result::Goal,
};
use crate::api::{Tenant, names};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;

/// Sets `spec.suspend` and waits until every replica acts on it; no time: only asks. Returns what to print.
///
/// # Errors
/// When the Tenant may not be changed, or the time is over; the tree shows what holds it up.
pub async fn suspend(cluster: &Cluster, name: &str, suspend: bool, timeout: Duration) -> Result<String, Unreached> {
    let tenant = observe_existing(cluster, name).await?;
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let api = Api::<Tenant>::namespaced(cluster.client.clone(), &namespace);
    let patch = Patch::Merge(json!({ "spec": { "suspend": suspend } }));
    api.patch(&name, &PatchParams::default(), &patch)
        .await
        .map_err(|e| PluginError::of_kube(&e, &format!("change the Tenant {namespace}/{name}")))?;
    let word = match (timeout.is_zero(), suspend) {
        (true, _) => "asked",
        (false, true) => "suspended",
        (false, false) => "resumed",
    };
    if !timeout.is_zero() {
        let cluster = Cluster { client: cluster.client.clone(), namespace: Some(namespace) };
        wait(&cluster, &name, Goal::Ready, timeout).await?;
    }
    Ok(format!("tenant.{}/{name} {word}\n", names::GROUP))
}
