//! The replicas of the agent API, from their acknowledgement Leases and, in a cluster, their Pods.

use super::{
    cache::{Cache, Versioned},
    error::required,
    watch::version_of,
};
use crate::{
    api::names,
    clock::Clock,
    domain::{
        ack::{Acknowledgement, Replica},
        ident::Version,
    },
    effects::error::EffectError,
    plan::observed::Replicas,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Assumed maximum difference between the clocks of two machines, when the time in a Lease is read.
const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// An acknowledgement Lease.
#[derive(Clone, Debug)]
pub struct AckLease {
    version: Version,
    name: String,
    acknowledgement: Option<Acknowledgement>,
    /// UID of the replica's Pod, from its acknowledgement.
    pod: Option<String>,
    renewed: Option<Timestamp>,
    duration: Duration,
    /// When this version was read, by our monotonic clock.
    seen: Duration,
}

impl Versioned for AckLease {
    fn version(&self) -> Version {
        self.version
    }
}

impl AckLease {
    pub(crate) fn new(lease: Lease, clock: &Clock) -> Self {
        let version = version_of(&lease);
        let json = lease.annotations().get(names::ACK_ANNOTATION);
        let acknowledgement: Option<Acknowledgement> = json.and_then(|text| serde_json::from_str(text).ok());
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            version,
            name: lease.name_any(),
            pod: acknowledgement.as_ref().and_then(|a| a.pod.as_ref().map(|uid| uid.0.clone())),
            acknowledgement,
            renewed: spec.renew_time.map(|t| t.0),
            duration: Duration::from_secs(
                spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(30),
            ),
            seen: clock.monotonic(),
        }
    }

    pub(crate) fn acknowledgement(&self) -> Option<&Acknowledgement> {
        self.acknowledgement.as_ref()
    }

    /// Whether the Lease was not renewed for an hour: the process has ended.
    pub(crate) fn is_abandoned(&self, now: Timestamp) -> bool {
        let hour = SignedDuration::from_hours(1);
        self.renewed.is_some_and(|t| now.duration_since(t) > hour)
    }

    /// Whether it was renewed within its duration plus `grace`, by both our own clock and the time in the Lease.
    fn is_fresh(&self, clock: &Clock, grace: Duration) -> bool {
        let limit = self.duration + grace;
        let by_ours = clock.monotonic().saturating_sub(self.seen) < limit;
        let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
        let by_theirs = self.renewed.is_none_or(|t| clock.now().duration_since(t) < limit.saturating_add(SKEW));
        by_ours && by_theirs
    }
}

/// A Pod of the agent API.
#[derive(Clone, Debug)]
pub struct ApiPod {
    version: Version,
    name: String,
    uid: String,
    ready: bool,
    running: bool,
}

impl Versioned for ApiPod {
    fn version(&self) -> Version {
        self.version
    }
}

impl ApiPod {
    pub(crate) fn new(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let condition = |type_: &str| {
            status
                .and_then(|s| s.conditions.as_ref())
                .is_some_and(|c| c.iter().any(|c| c.type_ == type_ && c.status == "True"))
        };
        let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        let running = containers.iter().any(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
        Self {
            version: version_of(pod),
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            ready: condition("Ready") && pod.metadata.deletion_timestamp.is_none(),
            running,
        }
    }
}

/// Where replicas are found.
#[derive(Clone)]
pub enum ReplicaDiscovery {
    /// The Pods of a label selector; a Lease only holds what a Pod acknowledged.
    Pods(Cache<ApiPod>, String),
    /// Leases that have not expired (agent API outside the cluster).
    Leases,
}

/// Every replica of the agent API, with its acknowledgement.
#[derive(Clone)]
pub struct ReplicaTracker {
    /// The acknowledgement Leases.
    pub(crate) leases: Cache<AckLease>,
    source: ReplicaDiscovery,
    namespace: String,
    clock: Clock,
    none_wanted: bool,
    /// How long a replica with an expired Lease still counts as running.
    grace: Duration,
}

impl ReplicaTracker {
    /// Replicas in a namespace. `none_wanted`: the installation runs no replica on purpose.
    pub(crate) fn new(
        source: ReplicaDiscovery,
        namespace: String,
        clock: Clock,
        grace: Duration,
        none_wanted: bool,
    ) -> Self {
        Self { leases: Cache::default(), source, namespace, clock, none_wanted, grace }
    }

    /// The replicas in the caches.
    pub(crate) fn observe(&self) -> Replicas {
        let leases: Vec<_> = self.leases.all().into_iter().map(|(_, lease)| lease).collect();
        let pods: Vec<_> = match &self.source {
            ReplicaDiscovery::Pods(pods, _) => pods.all().into_iter().map(|(_, pod)| pod).collect(),
            ReplicaDiscovery::Leases => Vec::new(),
        };
        self.judge(&leases, &pods)
    }

    /// The replicas in the API server: one or two lists. The age of a Lease is still measured from when the watch
    /// delivered it.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe_live(&self, client: &Client) -> Result<Replicas, EffectError> {
        let params = ListParams::default().labels(&format!("{}={}", names::ACK_LABEL, names::ACK_LABEL_VALUE));
        let api: Api<Lease> = Api::namespaced(client.clone(), &self.namespace);
        let found = required("list the acknowledgement Leases", api.list(&params)).await?;
        let known: BTreeMap<String, Arc<AckLease>> =
            self.leases.all().into_iter().map(|(_, lease)| (lease.name.clone(), lease)).collect();
        let leases: Vec<_> = found
            .items
            .into_iter()
            .map(|lease| {
                let new = AckLease::new(lease, &self.clock);
                match known.get(&new.name) {
                    Some(old) if old.version >= new.version => Arc::clone(old),
                    Some(_) | None => Arc::new(new),
                }
            })
            .collect();
        let pods = match &self.source {
            ReplicaDiscovery::Pods(_, selector) => {
                let api: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
                let params = ListParams::default().labels(selector);
                let found = required("list the replicas' Pods", api.list(&params)).await?;
                found.items.iter().map(|pod| Arc::new(ApiPod::new(pod))).collect()
            }
            ReplicaDiscovery::Leases => Vec::new(),
        };
        Ok(self.judge(&leases, &pods))
    }

    fn judge(&self, leases: &[Arc<AckLease>], pods: &[Arc<ApiPod>]) -> Replicas {
        let all = match &self.source {
            ReplicaDiscovery::Leases => leases
                .iter()
                .map(|lease| Replica {
                    name: lease.name.clone(),
                    ready: lease.is_fresh(&self.clock, Duration::ZERO),
                    running: lease.is_fresh(&self.clock, self.grace),
                    acknowledged: lease.acknowledgement.clone(),
                })
                .filter(|r| r.running)
                .collect(),
            ReplicaDiscovery::Pods(..) => pods
                .iter()
                .map(|pod| Replica {
                    name: pod.name.clone(),
                    ready: pod.ready,
                    running: pod.running,
                    acknowledged: leases
                        .iter()
                        .filter(|l| l.pod.as_deref() == Some(pod.uid.as_str()))
                        // A restarted container has a new process and a new acknowledgement: the newest is used.
                        .max_by_key(|l| l.version)
                        .and_then(|l| l.acknowledgement.clone()),
                })
                .filter(|r| r.running)
                .collect(),
        };
        Replicas { all, none_wanted: self.none_wanted }
    }
}

/// The entry version that all replicas have applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Applied by every ready replica; `None` without a ready replica.
    pub(crate) ready: Option<Version>,
    /// Applied by every running replica; `None` without a running replica.
    pub(crate) running: Option<Version>,
}

impl Floors {
    /// Whether a reconcile that waits for this version is to run: it was reached, or there is no replica to wait for.
    pub(crate) fn wakes(&self, version: Version) -> bool {
        [self.ready, self.running].iter().any(|floor| floor.is_none_or(|floor| floor >= version))
    }
}

pub(crate) fn floors(replicas: &Replicas) -> Floors {
    let applied = |r: &Replica| r.acknowledged.as_ref().map(|a| a.version).unwrap_or_default();
    Floors {
        ready: replicas.all.iter().filter(|r| r.ready).map(applied).min(),
        running: replicas.all.iter().filter(|r| r.running).map(applied).min(),
    }
}
