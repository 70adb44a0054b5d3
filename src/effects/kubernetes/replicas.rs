//! The replicas of the agent API, from their acknowledgement Leases and, in a cluster, their Pods.

use super::{
    cache::{Cache, Versioned},
    watch::version_of,
};
use crate::{
    api::names,
    clock::Clock,
    domain::{
        ack::{Acknowledgement, Replica},
        ident::Version,
    },
    plan::observed::Replicas,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::ResourceExt;
use std::time::Duration;

/// Clocks of two machines differ by at most this much, we assume, when a Lease's own time is read.
const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// An acknowledgement Lease.
#[derive(Clone, Debug)]
pub struct AckLease {
    version: Version,
    name: String,
    acknowledgement: Option<Acknowledgement>,
    /// The Pod it says it runs in.
    pod: Option<String>,
    renewed: Option<Timestamp>,
    duration: Duration,
    /// When we saw this version, by our monotonic clock.
    seen: Duration,
}

impl Versioned for AckLease {
    fn version(&self) -> Version {
        self.version
    }
}

impl AckLease {
    /// Reads a Lease.
    pub fn new(lease: Lease, clock: &Clock) -> Self {
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

    /// What it acknowledges.
    pub fn acknowledgement(&self) -> Option<&Acknowledgement> {
        self.acknowledgement.as_ref()
    }

    /// Not renewed for an hour: the process is gone for good.
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        let hour = SignedDuration::from_hours(1);
        self.renewed.is_some_and(|t| now.duration_since(t) > hour)
    }

    /// Renewed within its duration and `grace` more, by both our own clock and the time it carries.
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
    /// Reads a Pod.
    pub fn new(pod: &Pod) -> Self {
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

/// How replicas are counted.
#[derive(Clone)]
pub enum Source {
    /// The Pods of the Deployment; a Lease only tells what a Pod acknowledged.
    Pods(Cache<ApiPod>),
    /// Fresh Leases (agent API outside the cluster).
    Leases,
}

/// All replicas.
#[derive(Clone)]
pub struct Board {
    /// The acknowledgement Leases.
    pub leases: Cache<AckLease>,
    source: Source,
    clock: Clock,
    none_wanted: bool,
    /// How long a stale Lease still counts as a running replica.
    grace: Duration,
}

impl Board {
    /// A board. `none_wanted`: the installation runs no replica on purpose.
    pub fn new(source: Source, clock: Clock, grace: Duration, none_wanted: bool) -> Self {
        Self { leases: Cache::default(), source, clock, none_wanted, grace }
    }

    /// The replicas as they are now.
    pub fn observe(&self) -> Replicas {
        let leases = self.leases.all();
        let all = match &self.source {
            Source::Leases => leases
                .iter()
                .map(|(_, lease)| Replica {
                    name: lease.name.clone(),
                    ready: lease.is_fresh(&self.clock, Duration::ZERO),
                    running: lease.is_fresh(&self.clock, self.grace),
                    acknowledged: lease.acknowledgement.clone(),
                })
                .filter(|r| r.running)
                .collect(),
            Source::Pods(pods) => pods
                .all()
                .iter()
                .map(|(_, pod)| Replica {
                    name: pod.name.clone(),
                    ready: pod.ready,
                    running: pod.running,
                    acknowledged: leases
                        .iter()
                        .filter(|(_, l)| l.pod.as_deref() == Some(pod.uid.as_str()))
                        // A restarted container has a new process and a new acknowledgement; the newest counts.
                        .max_by_key(|(_, l)| l.version)
                        .and_then(|(_, l)| l.acknowledgement.clone()),
                })
                .filter(|r| r.running)
                .collect(),
        };
        Replicas { all, none_wanted: self.none_wanted }
    }
}

/// Up to which entry version the replicas have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floors {
    /// Every ready replica has applied this much; `None` without a ready replica.
    pub ready: Option<Version>,
    /// Every running replica has; `None` without a running replica.
    pub running: Option<Version>,
}

impl Floors {
    /// Whether who waits for this version has something new to see: it was reached, or nobody is left to wait for.
    pub fn wakes(&self, version: Version) -> bool {
        [self.ready, self.running].iter().any(|floor| floor.is_none_or(|floor| floor >= version))
    }
}

/// Computes the floors.
pub fn floors(replicas: &Replicas) -> Floors {
    let applied = |r: &Replica| r.acknowledged.as_ref().map(|a| a.version).unwrap_or_default();
    Floors {
        ready: replicas.all.iter().filter(|r| r.ready).map(applied).min(),
        running: replicas.all.iter().filter(|r| r.running).map(applied).min(),
    }
}
