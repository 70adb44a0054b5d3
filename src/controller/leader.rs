//! What a leader runs: the watches, the background tasks of the databases, and the workers.

use super::{
    context::OperatorContext,
    database::{
        report,
        rollout::{self, RolloutSettings},
        supervisor::Supervisor,
        tasks,
    },
    operator::Operator,
    queue::{retry::backoff, scheduler::Scheduler},
    reconcile::{orphans, worker::work},
    watch::{
        credentials, custom_migrations,
        watches::{self, WatchScope},
    },
};
use crate::{
    domain::ident::Epoch,
    effects::{
        kubernetes::{
            cache::Cache,
            instances::InstanceObjects,
            registry::RegistryChange,
            replicas::{ApiPod, ReplicaDiscovery, ReplicaTracker},
        },
        world::live::{LiveWorld, Parts},
    },
    plan::{
        installation::{Installation, InstanceTraits, Predecessors},
        instance::rollout::RolloutRules,
    },
    settings::{
        database::InstanceSettings,
        operator::{OperatorSettings, ReplicaSource},
    },
};
use kube::Client;
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// How long running reconciles may take to end after the process received a signal to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum pause between attempts to read the id of the cluster.
const MAX_START_PAUSE: Duration = Duration::from_secs(5);

/// A leader. Dropping it ends its tasks.
pub(super) struct Leader {
    context: Arc<OperatorContext>,
    /// Turns true when the workers have to end.
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
    /// Watches and background tasks, which run until the leader is dropped.
    _tasks: JoinSet<()>,
}

impl Leader {
    /// Fills the caches and starts every task.
    pub(super) async fn start(operator: &Operator) -> Self {
        let (settings, client) = (&operator.settings, &operator.client);
        let cluster_id = match settings.cluster_id.as_str() {
            "" => wait_for_cluster_id(client).await,
            named => named.to_owned(),
        };
        let scope = WatchScope {
            namespace: match settings.agent_api.namespace.as_str() {
                "" => operator.namespace.clone(),
                named => named.to_owned(),
            },
            pods: Cache::default(),
        };
        let (sender, changes) = mpsc::unbounded_channel();
        let world = build_world(operator, &cluster_id, &scope, sender);
        let context = Arc::new(build_context(operator, world, cluster_id));
        // Set once, here only.
        let _ = operator.context.set(Arc::clone(&context));

        let mut tasks = JoinSet::new();
        let mut synced = watches::start(&mut tasks, &context, client, settings, &scope, changes);
        let config_map = settings.migrations.config_map.as_str();
        if !config_map.is_empty() {
            let (namespace, seconds) = (&operator.namespace, settings.watch_seconds);
            synced.push(custom_migrations::follow(&mut tasks, &context, client, namespace, config_map, seconds));
        }
        for mut watch in synced {
            // A watch ends only with the process.
            drop(watch.wait_for(|synced| *synced).await);
        }
        context.note_synced();
        spawn_background_tasks(&mut tasks, operator, &context);

        let (stop, receiver) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..settings.concurrency {
            workers.spawn(work(Arc::clone(&context), receiver.clone()));
        }
        let (tenants, agents) = (context.world.tenants.cache.len(), context.world.agents.cache.len());
        tracing::info!(tenants, agents, "reconciling");
        Self { context, stop, workers, _tasks: tasks }
    }

    /// Turns true when a newer leader exists.
    pub(super) fn fenced(&self) -> watch::Receiver<bool> {
        self.context.fenced.subscribe()
    }

    /// Lets running reconciles end.
    pub(super) async fn drain(mut self) {
        self.stop.send_replace(true);
        // The result of a worker that panicked does not matter any more.
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
            tracing::warn!("running reconciles were canceled; the next leader completes them");
        }
    }
}

/// Reads the id of the cluster until the API server returns it.
async fn wait_for_cluster_id(client: &Client) -> String {
    let mut attempts = 0;
    loop {
        match LiveWorld::observe_cluster_id(client).await {
            Ok(id) => return id,
            Err(error) => {
                attempts += 1;
                tracing::warn!(error = error.chain(), "the id of the cluster could not be read; it is retried");
                tokio::time::sleep(backoff(attempts).min(MAX_START_PAUSE)).await;
            }
        }
    }
}

fn build_world(
    operator: &Operator,
    cluster_id: &str,
    scope: &WatchScope,
    changes: mpsc::UnboundedSender<RegistryChange>,
) -> LiveWorld {
    let settings = &operator.settings;
    let source = match settings.agent_api.replica_source {
        ReplicaSource::Pods => {
            ReplicaDiscovery::Pods(Cache::<ApiPod>::clone(&scope.pods), settings.agent_api.pod_selector.clone())
        }
        ReplicaSource::Leases => ReplicaDiscovery::Leases,
    };
    let replica_tracker = ReplicaTracker::new(
        source,
        scope.namespace.clone(),
        operator.clock.clone(),
        Duration::from_secs(settings.ack_timeout_seconds),
        settings.agent_api.none_wanted,
    );
    LiveWorld::new(Parts {
        client: operator.client.clone(),
        fence: operator.fence.clone(),
        instance: operator.pod.name.clone(),
        registry_namespace: settings.registry_namespace.clone(),
        replica_tracker,
        instances: operator.instances.clone(),
        cluster_id: cluster_id.to_owned(),
        changes,
    })
}

fn build_context(operator: &Operator, world: LiveWorld, cluster_id: String) -> OperatorContext {
    let (settings, clock) = (&operator.settings, operator.clock.clone());
    let seed = u64::from(std::process::id()) << 32 | u64::from(clock.now().subsec_nanosecond().unsigned_abs());
    OperatorContext {
        scheduler: Scheduler::new(clock.clone(), resync(settings), operator.instances.clone(), seed),
        metrics: operator.metrics.clone(),
        clock,
        fence: operator.fence.clone(),
        installation: Installation {
            instance: resolve_traits(&settings.database),
            others: settings.databases.iter().map(resolve_traits).collect(),
            cluster_id,
            predecessors: Predecessors {
                cluster_ids: settings.previous_cluster_ids.clone(),
                heartbeat_timeout_seconds: settings.cluster_heartbeat_timeout_seconds,
            },
            epoch: Epoch(operator.fence.epoch()),
            schema_version: settings.schema_version(),
            custom_migrations: None,
            signer_grace_seconds: i64::try_from(settings.signer_grace_seconds).unwrap_or(i64::MAX),
            ack_timeout_seconds: i64::try_from(settings.ack_timeout_seconds).unwrap_or(i64::MAX),
        },
        world,
        custom_migrations: watch::Sender::new(None),
        fleet: watch::Sender::new(BTreeMap::new()),
        watched: settings.watch_namespaces.clone(),
        synced: OnceLock::new(),
        logins_changed: watch::Sender::default(),
        fenced: watch::Sender::new(false),
    }
}

fn spawn_background_tasks(tasks: &mut JoinSet<()>, operator: &Operator, context: &Arc<OperatorContext>) {
    let settings = &operator.settings;
    let objects = InstanceObjects::new(operator.client.clone(), &operator.namespace, operator.fence.clone());
    tasks.spawn(orphans::search_registry(Arc::clone(context), resync(settings)));
    let period = Duration::from_secs(settings.credential_check_seconds);
    tasks.spawn(credentials::check_periodically(Arc::clone(context), period));
    for breaker in operator.instances.breakers() {
        let supervisor = Supervisor {
            breaker: breaker.clone(),
            instances: operator.instances.clone(),
            registry: context.world.registry.clone(),
            tenants: context.world.tenants.cache.clone(),
            fence: operator.fence.clone(),
            epochs: operator.elector.epochs(),
            cluster_id: context.installation.cluster_id.clone(),
        };
        tasks::start(tasks, context, supervisor, settings.heartbeat_interval(), resync(settings));
        tasks.spawn(report::report(Arc::clone(context), breaker.clone(), objects.clone()));
    }
    tasks.spawn(rollout::run(Arc::clone(context), rollout_settings(settings)));
    tasks.spawn(report::delete_others(Arc::clone(context), objects));
}

fn rollout_settings(settings: &OperatorSettings) -> RolloutSettings {
    RolloutSettings {
        rules: RolloutRules {
            canaries: settings.migrations.canary_count,
            hold_seconds: settings.migrations.hold_seconds,
            parallel: settings.migrations.parallel,
            max_failures: settings.migrations.max_failures,
        },
        canaries: settings.migrations.canaries.clone(),
        period: resync(settings),
    }
}

fn resync(settings: &OperatorSettings) -> Duration {
    Duration::from_secs(settings.resync_seconds)
}

fn resolve_traits(settings: &InstanceSettings) -> InstanceTraits {
    InstanceTraits {
        name: settings.name.clone(),
        prefix: settings.name_prefix.clone(),
        archive_seconds: i64::from(settings.archive_seconds),
    }
}
