//! The life of an agent API process: listen, follow the registry, acknowledge, serve, drain, withdraw.

use super::{
    Context, ContextError,
    acknowledge::{Acknowledger, Pod},
    http::router,
    registry::{
        directory,
        follow::{Follower, Progress},
        index::RegistryIndex,
        kube,
        tenant::TenantCaps,
    },
    shares::part_of,
};
use crate::{
    clock::Clock,
    domain::ident::{ProcessId, Uid, Version},
    settings::agent_api::{AgentApiSettings, HttpSettings},
    telemetry::{
        health::{self, Health, Readiness},
        server::{self, ConnectionLimits},
    },
};
use ::kube::{Client, Config};
use axum::{Json, routing::get};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Changes that may wait for the follower.
const QUEUE: usize = 1024;
/// Interval of the search for connections to close.
const SWEEP: Duration = Duration::from_secs(5);

/// Why the process ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is taken, or the address isn't ours.
    #[error("can't listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS can't be set up, or there is too little memory.
    #[error(transparent)]
    Context(ContextError),
    /// The API server can't be reached.
    #[error("there is no way to the API server: set KUBECONFIG, run in a cluster, or follow a directory")]
    NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Outside a cluster the Lease's namespace must be set.
    #[error("acknowledgement.namespace must be set where there is no variable POD_NAMESPACE")]
    NoNamespace,
}

/// What the downward API provides about this process: `POD_NAME`, `POD_UID`, `POD_NAMESPACE`.
#[derive(Clone, Debug, Default)]
pub struct ProcessEnvironment {
    /// The Pod.
    pub pod: Option<Pod>,
    /// Its namespace.
    pub namespace: Option<String>,
}

impl ProcessEnvironment {
    /// Reads them with `read`, usually from the environment.
    pub fn read(read: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| read(name).filter(|v| !v.is_empty());
        let pod = get("POD_NAME").zip(get("POD_UID")).map(|(name, uid)| Pod { name, uid: Uid(uid) });
        Self { pod, namespace: get("POD_NAMESPACE") }
    }
}

/// Runs until `stop` is cancelled and everything running has ended, or the drain time is over.
///
/// # Errors
/// When the process can't start, or a listener fails.
pub async fn run(
    settings: AgentApiSettings,
    environment: ProcessEnvironment,
    clock: Clock,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let api = listen(settings.http.listen).await?;
    let health_port = listen(settings.health.listen).await?;
    let context = Context::new(settings, clock.clone()).map_err(ServeError::Context)?;
    let settings = &context.settings;
    let (acknowledged, acknowledged_now) = watch::channel(Version::default());
    let draining = Arc::new(AtomicBool::new(false));
    // Health first: a process that waits for its registry is alive.
    let over = CancellationToken::new();
    let health = health_routes(&context, acknowledged_now, Arc::clone(&draining));
    let health = tokio::spawn(health::serve(health_port, health, over.clone().cancelled_owned()));

    let (changes, received) = mpsc::channel(QUEUE);
    let acknowledger = if settings.registry.directory.is_empty() {
        let client = connect().await?;
        let namespace = Some(settings.acknowledgement.namespace.clone()).filter(|n| !n.is_empty());
        let namespace = namespace.or(environment.namespace).ok_or(ServeError::NoNamespace)?;
        let process = ProcessId(Uuid::new_v4());
        let own = settings.acknowledgement.clone();
        let (budget, pod) = (settings.database.connection_budget, environment.pod);
        let acknowledger =
            Arc::new(Acknowledger::new(client.clone(), &namespace, process, pod, own, budget, clock.clone()));
        // Before the first list, so that the operator doesn't count on entries that this replica hasn't read.
        tokio::select! {
            () = acknowledger.announce() => {}
            () = stop.cancelled() => return Ok(()),
        }
        tracing::info!(%process, lease = acknowledger.name(), "following the registry of the cluster");
        let (registry, of) = (context.registry.clone(), settings.registry.namespace.clone());
        let seconds = settings.registry.watch_seconds;
        tokio::spawn(async move { kube::follow(client, &of, seconds, registry, changes).await });
        Some(acknowledger)
    } else {
        let path = PathBuf::from(&settings.registry.directory);
        let poll = Duration::from_secs(settings.registry.directory_poll_seconds);
        tracing::info!(directory = %path.display(), "following the registry of a directory");
        tokio::spawn(directory::follow(path, poll, context.registry.clone(), changes));
        None
    };
    let follower = start_follower(&context, received);
    let acknowledging = match &acknowledger {
        Some(acknowledger) => {
            let (acknowledger, progress) = (Arc::clone(acknowledger), context.registry.progress());
            tokio::spawn(async move { acknowledger.run(progress, acknowledged).await })
        }
        None => tokio::spawn(follow_progress(context.registry.progress(), acknowledged)),
    };
    let sweeping = tokio::spawn(sweep(Arc::clone(&context)));
    serve_api(&context, api, &stop, &draining).await;

    // Data first, then the acknowledgement.
    follower.abort();
    sweeping.abort();
    acknowledging.abort();
    context.database.pool().close().await;
    if let Some(acknowledger) = acknowledger {
        acknowledger.withdraw().await;
    }
    over.cancel();
    drop(health.await);
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

async fn connect() -> Result<Client, ServeError> {
    let mut config = Config::infer().await.map_err(|e| ServeError::NoCluster(Box::new(e)))?;
    // Every call here has its own limit and its own retry; a hidden one would only delay them.
    config.default_retry = false;
    Client::try_from(config).map_err(|e| ServeError::NoCluster(Box::new(e)))
}

/// Starts applying changes.
pub fn start_follower(
    context: &Arc<Context>,
    changes: mpsc::Receiver<super::registry::RegistryEvent>,
) -> tokio::task::JoinHandle<()> {
    let settings = &context.settings.database;
    let caps = TenantCaps {
        transactions: part_of(settings.connection_budget, context.settings.limits.tenant_share_percent),
        idle_in_transaction: Duration::from_secs(settings.idle_in_transaction_seconds),
    };
    let follower = Follower::new(
        context.registry.clone(),
        RegistryIndex::new(caps),
        context.login(),
        Arc::clone(&context.metrics),
        context.clock.clone(),
    );
    tokio::spawn(follower.run(changes))
}

/// Without a Lease, applied is acknowledged.
async fn follow_progress(mut progress: watch::Receiver<Progress>, acknowledged: watch::Sender<Version>) {
    loop {
        let now = progress.borrow_and_update().clone();
        if now.listed {
            // Version 0 means "nothing yet"; an empty directory is something.
            acknowledged.send_replace(now.version.max(Version(1)));
        }
        if progress.changed().await.is_err() {
            return;
        }
    }
}

fn health_routes(
    context: &Arc<Context>,
    acknowledged: watch::Receiver<Version>,
    draining: Arc<AtomicBool>,
) -> axum::Router {
    let (registry, limit) = (context.registry.clone(), context.settings.registry.max_staleness_seconds);
    let ready = move || {
        let acknowledged = *acknowledged.borrow() != Version::default();
        resolve_readiness(draining.load(Ordering::Relaxed), acknowledged, registry.staleness(), limit)
    };
    let (now, status) = (Arc::clone(context), Arc::clone(context));
    Health::new(context.metrics.metrics().clone(), ready)
        .with_collector(move || {
            now.metrics.note_now(now.registry.staleness(), now.database.pool().usage(), now.bytes.usage())
        })
        .router()
        .route("/registry", get(move || async move { Json(status.registry.status().as_ref().clone()) }))
}

/// A replica is ready while it serves what the registry says. `limit`, in seconds, is `registry.maxStalenessSeconds`.
fn resolve_readiness(draining: bool, acknowledged: bool, staleness: Duration, limit: u64) -> Readiness {
    if draining {
        Err("draining".to_owned())
    } else if !acknowledged {
        Err("the registry is not applied and acknowledged yet".to_owned())
    } else if limit > 0 && staleness > Duration::from_secs(limit) {
        Err(format!("no contact with the registry for more than {limit} s"))
    } else {
        Ok(())
    }
}

async fn sweep(context: Arc<Context>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let snapshot = Arc::clone(&context.registry.snapshot());
        context.database.pool().sweep(|cell| snapshot.cells.get(cell).map(|cell| cell.version));
    }
}

/// Serves until `stop`, then waits for running requests and tasks.
async fn serve_api(
    context: &Arc<Context>,
    listener: TcpListener,
    stop: &CancellationToken,
    draining: &Arc<AtomicBool>,
) {
    let settings = &context.settings.http;
    let (stopped, delay, draining) = (stop.clone(), settings.drain_delay_seconds, Arc::clone(draining));
    let serving = server::serve(listener, router(Arc::clone(context)), resolve_limits(settings), async move {
        stopped.cancelled().await;
        draining.store(true, Ordering::Relaxed);
        tracing::info!("draining");
        tokio::time::sleep(Duration::from_secs(delay)).await;
    });
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_secs(delay + settings.drain_seconds)).await;
    };
    tokio::pin!(late);
    let ended = async {
        serving.await;
        context.tasks.close();
        context.tasks.wait().await;
    };
    tokio::select! {
        () = ended => {}
        () = &mut late => {
            tracing::warn!(running = context.tasks.len(), "the drain time is over; abandoning what still runs");
        }
    }
}

/// The bounds of the API's connections: at most half of the files that the process may open, because each may need a
/// connection to a provider, and the health port has to answer as well.
fn resolve_limits(settings: &HttpSettings) -> ConnectionLimits {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = usize::try_from(files.unwrap_or(u64::MAX) / 2).unwrap_or(usize::MAX).max(1);
    if half < settings.max_connections {
        tracing::warn!(connections = half, "http.maxConnections is more than half of the files that may be open");
    }
    ConnectionLimits {
        connections: settings.max_connections.min(half),
        head: Duration::from_secs(settings.head_seconds),
        idle: Duration::from_secs(settings.idle_seconds),
        write: Duration::from_secs(settings.write_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_while_its_registry_is_applied_and_fresh() {
        let reason = |draining, acknowledged, seconds, limit| {
            resolve_readiness(draining, acknowledged, Duration::from_secs(seconds), limit).err().unwrap_or_default()
        };
        assert_eq!(reason(false, true, 900, 900), "");
        assert_eq!(reason(false, true, 901, 900), "no contact with the registry for more than 900 s");
        assert_eq!(reason(false, true, 100_000, 0), "", "0 means for ever");
        assert!(reason(false, false, 0, 900).contains("acknowledged"));
        assert_eq!(reason(true, true, 0, 900), "draining");
    }
}
