//! The leader Lease (coordination.k8s.io/v1): reading it, and replacing exactly the version that was read.

use super::error::{bounded, unless_taken};
use crate::effects::error::EffectError;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use std::time::Duration;

/// Content of the leader Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderRecord {
    /// `metadata.resourceVersion`: it changes with every renewal.
    pub(crate) version: String,
    /// The leader; empty if it was released.
    pub(crate) holder: String,
    /// How long the Lease is valid after a renewal.
    pub(crate) duration: Duration,
    /// The number of leader changes: the epoch.
    pub(crate) transitions: i32,
}

/// The leader Lease.
#[derive(Clone)]
pub struct LeaderLease {
    api: Api<Lease>,
    name: String,
}

/// What is written into the Lease.
#[derive(Clone, Debug)]
pub struct LeaseRequest<'a> {
    /// The leader; empty releases the Lease.
    pub(crate) holder: &'a str,
    /// How long the Lease is valid after a renewal.
    pub(crate) duration: Duration,
    /// The epoch.
    pub(crate) transitions: i32,
    /// Time of this renewal.
    pub(crate) now: Timestamp,
}

impl LeaderLease {
    pub(crate) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    /// Reads the Lease.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe(&self) -> Result<Option<LeaderRecord>, EffectError> {
        let found = bounded("read the leader Lease", self.api.get(&self.name)).await?;
        Ok(found.as_ref().map(record))
    }

    /// Creates the Lease, or replaces the version that was read. `Ok(None)`: another operator was faster.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn perform_write(
        &self,
        claim: &LeaseRequest<'_>,
        seen: Option<&LeaderRecord>,
    ) -> Result<Option<LeaderRecord>, EffectError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: seen.map(|s| s.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(claim.holder.to_owned()),
                lease_duration_seconds: i32::try_from(claim.duration.as_secs().max(1)).ok(),
                lease_transitions: Some(claim.transitions),
                renew_time: Some(MicroTime(claim.now)),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        let request = async {
            match seen {
                None => self.api.create(&params, &lease).await,
                Some(_) => self.api.replace(&self.name, &params, &lease).await,
            }
        };
        Ok(unless_taken("write the leader Lease", request).await?.as_ref().map(record))
    }
}

fn record(lease: &Lease) -> LeaderRecord {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaderRecord {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(15)),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
