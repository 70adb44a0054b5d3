//! The watches of the operator, and the handlers of their changes.

use crate::controller::context::OperatorContext;
use crate::{
    api::{AgentConfig, Tenant, names},
    effects::kubernetes::{
        cache::{Cache, CacheChange, Key},
        entries::Record,
        error::bounded,
        objects::{Owned, Watched},
        registry::RegistryChange,
        replicas::{AckLease, ApiPod, floors},
        watch::watch_into,
    },
    settings::operator::{OperatorSettings, ReplicaSource},
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, core::DeserializeGuard};
use kube_runtime::watcher;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// How often the heartbeats of the replicas are checked.
const HEARTBEAT_CHECK: Duration = Duration::from_secs(1);
/// How often the Leases of ended processes are deleted.
const LEASE_CLEANUP: Duration = Duration::from_secs(600);

/// Where the replicas of the agent API are watched.
pub(crate) struct WatchScope {
    /// Namespace of their Pods and Leases.
    pub namespace: String,
    /// Receives the Pods.
    pub pods: Cache<ApiPod>,
}

/// Starts every watch. Each receiver turns true after the first list.
pub(crate) fn start(
    tasks: &mut JoinSet<()>,
    context: &Arc<OperatorContext>,
    client: &Client,
    settings: &OperatorSettings,
    scope: &WatchScope,
    changes: mpsc::UnboundedReceiver<RegistryChange>,
) -> Vec<watch::Receiver<bool>> {
    let seconds = settings.watch_seconds;
    let namespace = scope.namespace.as_str();
    let mut synced = vec![registry(tasks, context, seconds), leases(tasks, context, client, namespace, seconds)];
    if settings.agent_api.replica_source == ReplicaSource::Pods {
        let config = watch_config(seconds).labels(&settings.agent_api.pod_selector);
        synced.push(api_pods(tasks, context, client, config, scope));
    }
    tasks.spawn(follow_registry(Arc::clone(context), changes));
    tasks.spawn(check_heartbeats(Arc::clone(context)));
    tasks.spawn(delete_abandoned_leases(Arc::clone(context), client.clone(), namespace.to_owned()));
    let scopes: Vec<Option<String>> = match settings.watch_namespaces.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    // Tenants last: the objects that they refer to should be known at their first reconcile.
    for scope in &scopes {
        let changed = Arc::clone(context);
        let cache = context.world.agents.cache.clone();
        synced.push(owned::<AgentConfig>(tasks, client, scope.clone(), seconds, cache, move |key, change| {
            changed.agent_changed(key, &change)
        }));
    }
    for scope in scopes {
        let changed = Arc::clone(context);
        let cache = context.world.tenants.cache.clone();
        synced.push(owned::<Tenant>(tasks, client, scope, seconds, cache, move |key, change| {
            changed.tenant_changed(key, &change)
        }));
    }
    synced
}

/// The server ends each watch after this time, so that a dead connection is noticed.
fn watch_config(seconds: u32) -> watcher::Config {
    watcher::Config::default().timeout(seconds)
}

fn owned<K: Owned>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    namespace: Option<String>,
    seconds: u32,
    cache: Cache<Watched<K>>,
    changed: impl Fn(&Key, CacheChange<Watched<K>>) + Send + 'static,
) -> watch::Receiver<bool> {
    let api: Api<DeserializeGuard<K>> = match &namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (synced, receiver) = watch::channel(false);
    tasks.spawn(watch_into(api, namespace, watch_config(seconds), cache, Watched::new, changed, synced));
    receiver
}

fn registry(tasks: &mut JoinSet<()>, context: &Arc<OperatorContext>, seconds: u32) -> watch::Receiver<bool> {
    let registry = context.world.registry.clone();
    let config = watch_config(seconds).labels(names::ENTRY_LABEL);
    let (synced, receiver) = watch::channel(false);
    let cache = registry.cache.clone();
    let api = registry.api();
    let view = |secret| Record::new(&secret);
    tasks.spawn(watch_into(
        api,
        None,
        config,
        cache,
        view,
        move |key, change| registry.note_change(key, &change),
        synced,
    ));
    receiver
}

fn leases(
    tasks: &mut JoinSet<()>,
    context: &Arc<OperatorContext>,
    client: &Client,
    namespace: &str,
    seconds: u32,
) -> watch::Receiver<bool> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let config = watch_config(seconds).labels(&format!("{}={}", names::ACK_LABEL, names::ACK_LABEL_VALUE));
    let (synced, receiver) = watch::channel(false);
    let clock = context.clock.clone();
    let view = move |lease| AckLease::new(lease, &clock);
    let cache = context.world.replica_tracker.leases.clone();
    let context = Arc::clone(context);
    tasks.spawn(watch_into(
        api,
        None,
        config,
        cache,
        view,
        move |_, change| {
            // A heartbeat without a new acknowledgement enqueues nothing.
            let acknowledgement =
                |lease: &Option<Arc<AckLease>>| lease.as_ref().and_then(|l| l.acknowledgement().cloned());
            if acknowledgement(&change.before) != acknowledgement(&change.after) {
                context.replicas_changed();
            }
        },
        synced,
    ));
    receiver
}

fn api_pods(
    tasks: &mut JoinSet<()>,
    context: &Arc<OperatorContext>,
    client: &Client,
    config: watcher::Config,
    scope: &WatchScope,
) -> watch::Receiver<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &scope.namespace);
    let cache = scope.pods.clone();
    let (synced, receiver) = watch::channel(false);
    let context = Arc::clone(context);
    let view = |pod| ApiPod::new(&pod);
    tasks.spawn(watch_into(api, None, config, cache, view, move |_, _| context.replicas_changed(), synced));
    receiver
}

async fn follow_registry(context: Arc<OperatorContext>, mut changes: mpsc::UnboundedReceiver<RegistryChange>) {
    while let Some(change) = changes.recv().await {
        context.registry_changed(&change);
    }
}

/// A missing heartbeat changes nothing in the API server, so time decides.
async fn check_heartbeats(context: Arc<OperatorContext>) {
    let mut last = floors(&context.world.replica_tracker.observe());
    loop {
        tokio::time::sleep(HEARTBEAT_CHECK).await;
        let now = floors(&context.world.replica_tracker.observe());
        if now != last {
            last = now;
            context.replicas_changed();
        }
    }
}

/// Deletes Leases that have not been renewed for an hour: outside a cluster they have no owner that is deleted with them.
async fn delete_abandoned_leases(context: Arc<OperatorContext>, client: Client, namespace: String) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    loop {
        tokio::time::sleep(LEASE_CLEANUP).await;
        for (key, lease) in context.world.replica_tracker.leases.all() {
            if lease.is_abandoned(context.clock.now()) && context.fence.check().is_ok() {
                let what = "delete an abandoned acknowledgement Lease";
                let params = kube::api::DeleteParams::default();
                if let Err(error) = bounded(what, api.delete(&key.name, &params)).await {
                    tracing::debug!(error = error.chain(), "an abandoned Lease was not deleted; it is retried");
                }
            }
        }
    }
}

impl OperatorContext {
    fn replicas_changed(&self) {
        self.scheduler.replicas_changed(|| floors(&self.world.replica_tracker.observe()));
    }
}
