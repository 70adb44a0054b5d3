//! The composition root of the operator: it opens its ports, waits for leadership, leads until it is stopped, and drains.

use super::{
    admin_api::{plan, server::AdminApi, takeover},
    context::{ContextSlot, collector},
    leader::Leader,
    leadership::{
        election::{Elector, ElectorSettings},
        identity::{Identity, PodIdentity},
    },
    metrics::OperatorMetrics,
    operator::Operator,
    readiness::{ProcessReadiness, ProcessStage},
};
use crate::{
    clock::Clock,
    effects::{
        database::{breaker::CircuitBreaker, instances::Instances},
        kubernetes::{
            fence::LeaseFence,
            lease::{LeaderLease, LeaderRecord},
        },
        postgres::Database,
    },
    settings::operator::OperatorSettings,
    telemetry::{
        health::{Health, serve},
        metrics::Metrics,
    },
};
use axum::Router;
use kube::Client;
use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};

/// Why the operator ended without being stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener could not be opened.
    #[error("{setting} {address} can't be listened on")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Leadership was lost. A new process has to start from the state of the world.
    #[error("leadership was lost: {0}")]
    LostLeadership(&'static str),
    /// No namespace for the Lease.
    #[error("leaderElection.namespace is not set, and neither is the variable POD_NAMESPACE")]
    NoNamespace,
}

/// What identifies the process.
pub struct ProcessIdentity {
    /// The holder in the Lease.
    pub leader: Identity,
    /// The Pod.
    pub pod: PodIdentity,
}

/// Runs the operator until `stop` is done or leadership is lost.
///
/// # Errors
/// When it can't start, or when leadership was lost.
pub async fn run(
    settings: OperatorSettings,
    client: Client,
    identity: ProcessIdentity,
    metrics: Metrics,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let operator = Operator::bind(settings, client, identity, metrics).await?;
    operator.lead(stop).await
}

impl Operator {
    /// Opens the ports. Health, metrics and the admin API are served from now on.
    async fn bind(
        settings: OperatorSettings,
        client: Client,
        identity: ProcessIdentity,
        metrics: Metrics,
    ) -> Result<Self, RunError> {
        let ProcessIdentity { leader: identity, pod } = identity;
        let clock = Clock::system();
        let fence = LeaseFence::new(clock.clone());
        let instances = Instances::new(settings.instances().map(|one| CircuitBreaker::new(Database::new(one.clone()))));
        let (own, readiness, context) =
            (OperatorMetrics::new(&metrics), ProcessReadiness::default(), ContextSlot::default());
        let mut servers = JoinSet::new();

        let listener = listen("httpAddress", settings.http_address).await?;
        let ready = readiness.clone();
        let health =
            Health::new(metrics, move || ready.check()).with_collector(collector(&own, &instances, &fence, &context));
        spawn_server(&mut servers, listener, health.router());

        let namespace = match settings.leader_election.namespace.as_str() {
            "" => pod.namespace.clone().ok_or(RunError::NoNamespace)?,
            named => named.to_owned(),
        };
        let lease = LeaderLease::new(client.clone(), &namespace, &settings.leader_election.name);
        if let Some(address) = settings.admin_api.http_address {
            let listener = listen("adminApi.httpAddress", address).await?;
            let audiences = settings.admin_api.audiences.clone().into();
            let admin_api = AdminApi::new(Arc::clone(&context), &client, audiences, lease.clone(), clock.clone());
            let routes = plan::routes(&own).merge(takeover::routes(&own)).with_state(admin_api);
            spawn_server(&mut servers, listener, routes);
        }

        let timing = ElectorSettings {
            duration: settings.lease(),
            renew: Duration::from_secs(settings.leader_election.renew_seconds),
        };
        let elector = Arc::new(Elector::new(lease, identity.name.clone(), timing, clock.clone(), fence.clone()));
        Ok(Self {
            settings,
            client,
            pod,
            namespace,
            clock,
            fence,
            instances,
            metrics: own,
            readiness,
            context,
            elector,
            _identity: identity,
            _servers: servers,
        })
    }

    /// Waits for leadership, and leads until `stop` is done or leadership is lost.
    async fn lead(&self, stop: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let mut stop = pin!(stop);
        self.readiness.set(ProcessStage::Standby);
        let record = tokio::select! {
            () = &mut stop => return Ok(()),
            record = self.elector.acquire() => record,
        };
        tracing::info!(epoch = record.transitions, identity = self.elector.identity(), "leading");
        self.readiness.set(ProcessStage::Syncing);
        // Dropped at the end, which stops the renewal.
        let mut renewal = self.spawn_renewal(record);
        let leader = tokio::select! {
            () = &mut stop => None,
            lost = renewal.join_next() => return Err(lost_leadership(lost)),
            leader = Leader::start(self) => Some(leader),
        };
        let mut result = Ok(());
        if let Some(leader) = leader {
            self.readiness.set(ProcessStage::Leading);
            result = tokio::select! {
                () = &mut stop => Ok(()),
                lost = renewal.join_next() => Err(lost_leadership(lost)),
                () = wait_fenced(leader.fenced()) => Err(RunError::LostLeadership("the database knows a newer leader")),
            };
            leader.drain().await;
        }
        if result.is_ok() {
            drop(renewal);
            self.elector.release().await;
        }
        result
    }

    fn spawn_renewal(&self, record: LeaderRecord) -> JoinSet<&'static str> {
        let mut renewal = JoinSet::new();
        let elector = Arc::clone(&self.elector);
        renewal.spawn(async move { elector.keep(record).await });
        renewal
    }
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { setting, address, source })
}

fn spawn_server(servers: &mut JoinSet<()>, listener: TcpListener, routes: Router) {
    servers.spawn(async move {
        if let Err(error) = serve(listener, routes, std::future::pending()).await {
            tracing::error!(%error, "a server ended");
        }
    });
}

fn lost_leadership(ended: Option<Result<&'static str, JoinError>>) -> RunError {
    RunError::LostLeadership(ended.and_then(Result::ok).unwrap_or("the renewal of the Lease ended early"))
}

async fn wait_fenced(mut fenced: watch::Receiver<bool>) {
    if fenced.wait_for(|fenced| *fenced).await.is_err() {
        std::future::pending::<()>().await;
    }
}
