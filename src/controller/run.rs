//! Putting the operator together and running it: wait for leadership, look at everything, work until told to stop.

use super::{
    admin_api::{plan, server::AdminApi, takeover},
    context::Context,
    database::{
        report,
        rollout::{self, RolloutSettings},
        supervisor::Supervisor,
        tasks,
    },
    leadership::{election::Elector, identity::Identity},
    metrics::OperatorMetrics,
    queue::{retry::backoff, scheduler::Scheduler},
    reconcile::{orphans, worker::work},
    watch::{custom_migrations, watches},
};
use crate::{
    clock::Clock,
    domain::ident::Epoch,
    effects::{
        database::{breaker::CircuitBreaker, instances::Instances},
        kubernetes::{
            cache::Cache,
            fence::LeaseFence,
            instances::InstanceObjects,
            lease::LeaderLease,
            replicas::{ReplicaTracker, Source},
        },
        postgres::Database,
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
    telemetry::{
        health::{Health, serve},
        metrics::Metrics,
    },
};
use kube::Client;
use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

/// How long passes under way may take to end once the process was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Longest pause between attempts to read what is needed at the start.
const LONGEST_START_PAUSE: Duration = Duration::from_secs(5);

/// Why the operator ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener could not be opened.
    #[error("{setting} {address} can't be listened on")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Leadership was lost; a new process has to start from what is there.
    #[error("leadership was lost: {0}")]
    LostLeadership(&'static str),
    /// No namespace for the Lease.
    #[error("leaderElection.namespace is not set, and neither is the variable POD_NAMESPACE")]
    NoNamespace,
}

/// Where the process stands, for /readyz.
#[derive(Clone, Default)]
struct Stage(Arc<AtomicU8>);

const STARTING: u8 = 0;
const STANDBY: u8 = 1;
const SYNCING: u8 = 2;
const LEADING: u8 = 3;

impl Stage {
    fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    fn readiness(&self) -> Result<(), String> {
        match self.0.load(Ordering::Relaxed) {
            STANDBY | LEADING => Ok(()),
            STARTING => Err("starting".to_owned()),
            _ => Err("reading what is there".to_owned()),
        }
    }
}

/// Runs the operator until `stop` is done or leadership is lost.
///
/// # Errors
/// When it can't start, or when leadership was lost.
pub async fn run(
    settings: OperatorSettings,
    client: Client,
    identity: Identity,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let clock = Clock::system();
    let fence = LeaseFence::new(clock.clone());
    let stage = Stage::default();
    let instances = Instances::new(settings.instances().map(|one| CircuitBreaker::new(Database::new(one.clone()))));
    let own = OperatorMetrics::new(&metrics);
    let listener = listen("httpAddress", settings.http_address).await?;
    let (collector, context_slot) = collector(&own, &instances, &fence);
    let readiness = stage.clone();
    let health = Health::new(metrics, move || readiness.readiness()).with_collector(collector);
    let server = tokio::spawn(serve(listener, health.router(), std::future::pending()));

    let own_namespace = namespace(&settings.leader_election.namespace).ok_or(RunError::NoNamespace)?;
    let lease = LeaderLease::new(client.clone(), &own_namespace, &settings.leader_election.name);
    let audiences = settings.admin_api.audiences.clone().into();
    let admin_api = AdminApi::new(Arc::clone(&context_slot), &client, audiences, lease.clone(), clock.clone());
    let plans = match settings.admin_api.http_address {
        Some(address) => {
            let listener = listen("adminApi.httpAddress", address).await?;
            Some(tokio::spawn(serve(
                listener,
                plan::routes(&own).merge(takeover::routes(&own)).with_state(admin_api),
                std::future::pending(),
            )))
        }
        None => None,
    };
    let renew = Duration::from_secs(settings.leader_election.renew_seconds);
    let elector = Elector::new(lease, identity.name.clone(), settings.lease(), renew, clock.clone(), fence.clone());

    tokio::pin!(stop);
    stage.set(STANDBY);
    let record = tokio::select! {
        () = &mut stop => return Ok(()),
        record = elector.acquire() => record,
    };
    tracing::info!(epoch = record.transitions, identity = identity.name, "leading");
    stage.set(SYNCING);
    let elector = Arc::new(elector);
    let mut keeper = tokio::spawn({
        let elector = Arc::clone(&elector);
        async move { elector.keep(record).await }
    });
    let leading = lead(
        &settings,
        client,
        &own_namespace,
        (clock, fence, instances, own),
        elector.epochs(),
        &stage,
        &context_slot,
    );
    let started = tokio::select! {
        () = &mut stop => None,
        lost = &mut keeper => return Err(lost_leadership(lost)),
        leading = leading => Some(leading),
    };
    let mut result = Ok(());
    if let Some((workers, fenced)) = started {
        result = tokio::select! {
            () = &mut stop => Ok(()),
            lost = &mut keeper => Err(lost_leadership(lost)),
            () = wait_fenced(fenced) => Err(RunError::LostLeadership("the database knows a newer leader")),
        };
        workers.stop().await;
    }
    if result.is_ok() {
        keeper.abort();
        elector.release().await;
    }
    server.abort();
    plans.iter().for_each(tokio::task::JoinHandle::abort);
    result
}

async fn listen(setting: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { setting, address, source })
}

fn lost_leadership(kept: Result<&'static str, tokio::task::JoinError>) -> RunError {
    RunError::LostLeadership(kept.unwrap_or("the elector ended early"))
}

async fn wait_fenced(mut fenced: watch::Receiver<bool>) {
    if fenced.wait_for(|fenced| *fenced).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The namespace of a setting, or the Pod's.
fn namespace(setting: &str) -> Option<String> {
    let pod = || std::env::var("POD_NAMESPACE").ok();
    Some(setting.to_owned()).filter(|n| !n.is_empty()).or_else(pod).filter(|n| !n.is_empty())
}

type ContextSlot = Arc<OnceLock<Arc<Context>>>;

/// What is read rather than counted, each time the metrics are shown.
fn collector(
    own: &OperatorMetrics,
    instances: &Instances,
    fence: &LeaseFence,
) -> (impl Fn() + Send + Sync + 'static, ContextSlot) {
    let slot = ContextSlot::default();
    let (own, instances, fence, seen) = (own.clone(), instances.clone(), fence.clone(), Arc::clone(&slot));
    let collect = move || {
        own.leader.set(i64::from(fence.is_leader()));
        own.epoch.set(i64::from(fence.epoch()));
        for breaker in instances.breakers() {
            own.record_database(breaker.name(), breaker.is_closed(), breaker.database.round_trips());
        }
        if let Some(context) = seen.get() {
            own.waiting.set(i64::try_from(context.scheduler.waiting()).unwrap_or(i64::MAX));
            own.record_objects("tenant", context.world.tenants.cache.len());
            own.record_objects("agentconfig", context.world.agents.cache.len());
            let ready = context.world.replica_tracker.observe().all.iter().filter(|r| r.ready).count();
            own.replicas.set(i64::try_from(ready).unwrap_or(i64::MAX));
        }
    };
    (collect, slot)
}

/// Running workers.
struct Workers {
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Workers {
    /// Lets passes under way end.
    async fn stop(self) {
        self.stop.send_replace(true);
        let all = async {
            for task in self.tasks {
                // A worker that panicked has nothing left to finish.
                drop(task.await);
            }
        };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!("passes under way were cut off; the next leader finishes them");
        }
    }
}

/// The cluster's id, asked for until the API server tells it: like the lists that follow, a failed read costs time only.
async fn cluster_id(client: &Client) -> String {
    let mut attempts = 0;
    loop {
        match LiveWorld::observe_cluster_id(client).await {
            Ok(id) => return id,
            Err(error) => {
                attempts += 1;
                tracing::warn!(error = error.chain(), "the cluster's id could not be read; trying again");
                tokio::time::sleep(backoff(attempts).min(LONGEST_START_PAUSE)).await;
            }
        }
    }
}

async fn lead(
    settings: &OperatorSettings,
    client: Client,
    own_namespace: &str,
    (clock, fence, instances, own): (Clock, LeaseFence, Instances, OperatorMetrics),
    epochs: super::leadership::election::EpochRequest,
    stage: &Stage,
    slot: &ContextSlot,
) -> (Workers, watch::Receiver<bool>) {
    let cluster_id = match settings.cluster_id.as_str() {
        "" => cluster_id(&client).await,
        named => named.to_owned(),
    };
    let api_namespace = match settings.agent_api.namespace.as_str() {
        "" => own_namespace,
        named => named,
    };
    let grace = Duration::from_secs(settings.ack_timeout_seconds);
    let pods = Cache::default();
    let source = match settings.agent_api.replica_source {
        ReplicaSource::Pods => Source::Pods(pods.clone(), settings.agent_api.pod_selector.clone()),
        ReplicaSource::Leases => Source::Leases,
    };
    let (changes, news_receiver) = tokio::sync::mpsc::unbounded_channel();
    let world = LiveWorld::new(Parts {
        client: client.clone(),
        fence: fence.clone(),
        instance: std::env::var("POD_NAME").ok(),
        registry_namespace: settings.registry_namespace.clone(),
        replica_tracker: ReplicaTracker::new(
            source,
            api_namespace.to_owned(),
            clock.clone(),
            grace,
            settings.agent_api.none_wanted,
        ),
        instances: instances.clone(),
        cluster_id: cluster_id.clone(),
        changes,
    });
    let (fenced, fenced_receiver) = watch::channel(false);
    let seed = u64::from(std::process::id()) << 32 | u64::from(clock.now().subsec_nanosecond().unsigned_abs());
    let resync = Duration::from_secs(settings.resync_seconds);
    let context = Arc::new(Context {
        scheduler: Scheduler::new(clock.clone(), resync, instances.clone(), seed),
        metrics: own,
        clock,
        fence: fence.clone(),
        installation: Installation {
            instance: resolve_traits(&settings.database),
            others: settings.databases.iter().map(resolve_traits).collect(),
            cluster_id: cluster_id.clone(),
            predecessors: Predecessors {
                cluster_ids: settings.previous_cluster_ids.clone(),
                heartbeat_timeout_seconds: settings.cluster_heartbeat_timeout_seconds,
            },
            epoch: Epoch(fence.epoch()),
            schema_version: settings.schema_version(),
            custom_migrations: None,
            signer_grace_seconds: i64::try_from(settings.signer_grace_seconds).unwrap_or(i64::MAX),
            ack_timeout_seconds: i64::try_from(settings.ack_timeout_seconds).unwrap_or(i64::MAX),
        },
        world,
        custom_migrations: watch::Sender::new(None),
        fleet: watch::Sender::default(),
        watched: settings.watch_namespaces.clone(),
        synced: OnceLock::new(),
        logins_changed: watch::Sender::default(),
        fenced,
    });
    let _ = slot.set(Arc::clone(&context));
    let mut synced = watches::start(&context, &client, settings, api_namespace, Some(pods), news_receiver);
    let config_map = settings.migrations.config_map.as_str();
    if !config_map.is_empty() {
        synced.push(custom_migrations::follow(&context, &client, own_namespace, config_map, settings.watch_seconds));
    }
    for mut watch in synced {
        // A watch task ends only with the process.
        drop(watch.wait_for(|synced| *synced).await);
    }
    context.note_synced();
    tokio::spawn(orphans::search_registry(Arc::clone(&context), resync));
    for breaker in instances.breakers() {
        let supervisor = Supervisor {
            breaker: breaker.clone(),
            instances: instances.clone(),
            registry: context.world.registry.clone(),
            tenants: context.world.tenants.cache.clone(),
            fence: fence.clone(),
            epochs: epochs.clone(),
            cluster_id: cluster_id.clone(),
        };
        tasks::start(&context, supervisor, settings.heartbeat_interval(), resync);
    }
    let upgrade = RolloutSettings {
        rules: RolloutRules {
            canaries: settings.migrations.canary_count,
            hold_seconds: settings.migrations.hold_seconds,
            parallel: settings.migrations.parallel,
            max_failures: settings.migrations.max_failures,
        },
        canaries: settings.migrations.canaries.clone(),
        period: resync,
    };
    tokio::spawn(rollout::run(Arc::clone(&context), upgrade));
    let objects = InstanceObjects::new(client, own_namespace, fence);
    for breaker in instances.breakers() {
        tokio::spawn(report::report(Arc::clone(&context), breaker.clone(), objects.clone()));
    }
    tokio::spawn(report::delete_others(Arc::clone(&context), objects));
    let (stop, stop_receiver) = watch::channel(false);
    let tasks =
        (0..settings.concurrency).map(|_| tokio::spawn(work(Arc::clone(&context), stop_receiver.clone()))).collect();
    stage.set(LEADING);
    tracing::info!(tenants = context.world.tenants.cache.len(), agents = context.world.agents.cache.len(), "working");
    (Workers { stop, tasks }, fenced_receiver)
}

fn resolve_traits(settings: &InstanceSettings) -> InstanceTraits {
    InstanceTraits {
        name: settings.name.clone(),
        prefix: settings.name_prefix.clone(),
        archive_seconds: i64::from(settings.archive_seconds),
    }
}
