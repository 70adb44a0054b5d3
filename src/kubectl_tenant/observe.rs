//! Every read from the API server.

use super::{cluster::Cluster, error::PluginError, report::document::Facts};
use crate::{
    api::{AgentConfig, Tenant, names},
    domain::{class::ErrorClass, keyring::Keyring},
};
use futures::{StreamExt, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};

/// AgentConfigs of one Tenant that are read in parallel.
const PARALLEL_READS: usize = 4;

/// The Tenant of that name (with `-A`: of that name or tenant id, in any namespace), or none.
///
/// # Errors
/// When it can't be read, or the name is ambiguous.
pub(crate) async fn observe_tenant(cluster: &Cluster, name: &str) -> Result<Option<Tenant>, PluginError> {
    match &cluster.namespace {
        Some(namespace) => {
            let what = format!("read the Tenant {namespace}/{name}");
            match Api::<Tenant>::namespaced(cluster.client.clone(), namespace).get(name).await {
                Ok(tenant) => Ok(Some(tenant)),
                Err(kube::Error::Api(status)) if status.code == 404 && names_an_object(&status) => Ok(None),
                Err(error) => Err(of_read(&error, &what)),
            }
        }
        None => observe_anywhere(&cluster.client, name).await,
    }
}

async fn observe_anywhere(client: &Client, name: &str) -> Result<Option<Tenant>, PluginError> {
    let api = Api::<Tenant>::all(client.clone());
    let mut found: Vec<Tenant> = Vec::new();
    for selector in ["metadata.name", "spec.tenantId"] {
        let params = ListParams::default().fields(&format!("{selector}={name}"));
        let list = api.list(&params).await.map_err(|e| of_read(&e, "list the Tenants in every namespace"))?;
        found.extend(list.items.into_iter().filter(|t| !found.iter().any(|f| f.uid() == t.uid())).collect::<Vec<_>>());
    }
    if found.len() > 1 {
        let names: Vec<_> =
            found.iter().map(|t| format!("{}/{}", t.namespace().unwrap_or_default(), t.name_any())).collect();
        let advice = format!("'{name}' matches several Tenants ({}); choose one with --namespace", names.join(", "));
        return Err(PluginError::new(ErrorClass::Invalid, advice));
    }
    Ok(found.pop())
}

/// Whether a 404 is about an object; a 404 for an unknown resource type has no object name.
fn names_an_object(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

fn of_read(error: &kube::Error, what: &str) -> PluginError {
    match error {
        kube::Error::Api(status) if status.code == 404 => PluginError::new(
            ErrorClass::Invalid,
            format!("can't {what}: this cluster has no resource tenants.{}; is agent-tenancy installed?", names::GROUP),
        ),
        other => PluginError::of_kube(other, what),
    }
}

/// [`observe_tenant`] for a Tenant that must exist.
///
/// # Errors
/// As [`observe_tenant`], and when there is none.
pub(crate) async fn observe_existing(cluster: &Cluster, name: &str) -> Result<Tenant, PluginError> {
    let place = cluster.namespace.as_ref().map_or("any namespace".to_owned(), |n| format!("namespace '{n}'"));
    let missing = || PluginError::new(ErrorClass::Invalid, format!("there is no Tenant '{name}' in {place}"));
    observe_tenant(cluster, name).await?.ok_or_else(missing)
}

/// The Tenant's keyring, from its Secret.
///
/// # Errors
/// When no keys are issued yet, or the Secret can't be read, has another owner, or holds no keyring.
pub(crate) async fn observe_keyring(client: &Client, tenant: &Tenant) -> Result<Keyring, PluginError> {
    let missing = || PluginError::new(ErrorClass::Waiting, format!("Tenant {} has no keys yet", tenant.name_any()));
    let keys = tenant.status.as_ref().and_then(|status| status.keys.as_ref()).ok_or_else(missing)?;
    let name = keys.secret_name.as_str();
    let namespace = tenant.namespace().unwrap_or_default();
    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    let what = format!("read the Secret {namespace}/{name}");
    let secret = api.get(name).await.map_err(|e| PluginError::of_kube(&e, &what))?;
    if secret.labels().get(names::TENANT_UID_LABEL).is_some_and(|uid| Some(uid) != tenant.metadata.uid.as_ref()) {
        let text = format!("the Secret {namespace}/{name} belongs to another Tenant than this one");
        return Err(PluginError::new(ErrorClass::Conflict, text));
    }
    let data = secret.data.unwrap_or_default();
    Keyring::parse_secret(|key| data.get(key).map(|bytes| bytes.0.as_slice()))
        .map_err(|e| PluginError::new(ErrorClass::Invalid, format!("the Secret {namespace}/{name} holds no keys: {e}")))
}

/// Reads everything about a Tenant. `agent_api` is the namespace of the replicas' Leases; `None`: all namespaces.
pub(crate) async fn observe_facts(client: &Client, tenant: Tenant, agent_api: Option<&str>) -> Facts {
    let (agents, leases) = futures::join!(observe_agents(client, &tenant), observe_leases(client, agent_api));
    Facts { tenant, agents, leases }
}

async fn observe_agents(client: &Client, tenant: &Tenant) -> Vec<Result<Option<AgentConfig>, PluginError>> {
    let namespace = tenant.namespace().unwrap_or_default();
    let api = Api::<AgentConfig>::namespaced(client.clone(), &namespace);
    let reads = tenant.spec.agents.iter().map(|agent| {
        let (api, name) = (api.clone(), agent.config_ref.name.clone());
        let what = format!("read the AgentConfig {namespace}/{name}");
        async move { api.get_opt(&name).await.map_err(|e| PluginError::of_kube(&e, &what)) }
    });
    stream::iter(reads.collect::<Vec<_>>()).buffered(PARALLEL_READS).collect().await
}

async fn observe_leases(client: &Client, namespace: Option<&str>) -> Result<Vec<Lease>, PluginError> {
    let (api, place) = match namespace {
        Some(namespace) => (Api::<Lease>::namespaced(client.clone(), namespace), format!("in namespace '{namespace}'")),
        None => (Api::<Lease>::all(client.clone()), "in every namespace".to_owned()),
    };
    let params = ListParams::default().labels(&format!("{}={}", names::ACK_LABEL, names::ACK_LABEL_VALUE));
    let what = format!("list the Leases of the agent API's replicas {place}");
    match api.list(&params).await {
        Ok(list) => Ok(list.items),
        Err(error) => {
            let error = PluginError::of_kube(&error, &what);
            if error.class() == ErrorClass::Denied && namespace.is_none() {
                let advice =
                    format!("{error} (if you may list them in the agent API's namespace, give --agent-api-namespace)");
                return Err(PluginError::new(ErrorClass::Denied, advice));
            }
            Err(error)
        }
    }
}
