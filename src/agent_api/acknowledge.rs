//! This replica's Lease: what it has applied and which tenants it refuses. The operator promotes keys and calls tenants
//! Ready only on the strength of it.
//!
//! Written with version 0 before the first list, then at once after a change, but at most every 100 ms (setting), and
//! periodically without one, so that it doesn't expire. Deleted at the end of a graceful stop.

use super::registry::follow::Progress;
use crate::{
    api::names::{ACK_ANNOTATION, ACK_LABEL, ACK_LABEL_VALUE},
    clock::Clock,
    domain::{
        ack::Acknowledgement,
        entry::FORMAT,
        ident::{ProcessId, Uid, Version},
        migrations::TENANT_VERSION,
    },
    settings::agent_api::AcknowledgementSettings,
    telemetry::Chain,
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::watch;

/// Longest wait for the API server's answer to one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// The Pod this process runs in, from the downward API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `POD_NAME`.
    pub name: String,
    /// `POD_UID`.
    pub uid: Uid,
}

/// Writes this process's Lease.
pub struct Acknowledger {
    leases: Api<Lease>,
    name: String,
    process: ProcessId,
    pod: Option<Pod>,
    settings: AcknowledgementSettings,
    /// Connections that this replica may open.
    connection_budget: usize,
    clock: Clock,
}

impl Acknowledger {
    /// For a Lease in `namespace`. A Pod's later process takes over its earlier one's Lease.
    pub fn new(
        client: Client,
        namespace: &str,
        process: ProcessId,
        pod: Option<Pod>,
        settings: AcknowledgementSettings,
        connection_budget: usize,
        clock: Clock,
    ) -> Self {
        let last = pod.as_ref().map_or_else(|| process.to_string(), |p| p.name.clone());
        let name = format!("{}-{last}", settings.name_prefix);
        Self { leases: Api::namespaced(client, namespace), name, process, pod, settings, connection_budget, clock }
    }

    /// Name of the Lease.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the Lease for the first time; returns when it exists.
    pub async fn announce(&self) {
        let mut failing = false;
        while let Err(error) = self.put(&Progress::default()).await {
            if !failing {
                tracing::warn!(lease = self.name, error = %Chain(&error), "can't write the acknowledgement; retrying");
            }
            failing = true;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps the Lease up to date; sends what it contains through `written`. Runs until the progress ends.
    pub async fn run(&self, mut progress: watch::Receiver<Progress>, written: watch::Sender<Version>) {
        let heartbeat = Duration::from_secs(self.settings.heartbeat_seconds);
        let interval = Duration::from_millis(self.settings.interval_millis);
        let mut failing = false;
        loop {
            let now = progress.borrow_and_update().clone();
            let wait = match self.patch(&now).await {
                Ok(()) => {
                    if failing {
                        tracing::info!(lease = self.name, "the acknowledgement is written again");
                    }
                    failing = false;
                    if now.listed {
                        written.send_if_modified(|v| std::mem::replace(v, now.version) != now.version);
                    }
                    heartbeat
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(lease = self.name, error = %Chain(&error), "can't write the acknowledgement");
                    }
                    failing = true;
                    RETRY
                }
            };
            // Changes during the wait are combined into the next write.
            tokio::time::sleep(interval).await;
            tokio::select! {
                changed = progress.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(wait.saturating_sub(interval)) => {}
            }
        }
    }

    /// Deletes the Lease: this process serves nothing any more.
    pub async fn withdraw(&self) {
        let parameters = DeleteParams::default();
        let delete = self.leases.delete(&self.name, &parameters);
        match tokio::time::timeout(WRITE_TIMEOUT, delete).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = %Chain(&error), "can't delete the acknowledgement")
            }
            Err(_) => tracing::warn!(lease = self.name, "deleting the acknowledgement took too long"),
        }
    }

    /// Creates the Lease, or takes over an existing one.
    async fn put(&self, progress: &Progress) -> Result<(), AcknowledgeError> {
        let lease = self.render(progress);
        match bounded(self.leases.create(&PostParams::default(), &lease)).await {
            Err(AcknowledgeError::Api(kube::Error::Api(status))) if status.is_already_exists() => {
                self.patch_existing(progress).await
            }
            other => other.map(|_| ()),
        }
    }

    async fn patch(&self, progress: &Progress) -> Result<(), AcknowledgeError> {
        match self.patch_existing(progress).await {
            // The operator removed it as expired.
            Err(AcknowledgeError::Api(kube::Error::Api(status))) if status.is_not_found() => {
                bounded(self.leases.create(&PostParams::default(), &self.render(progress))).await.map(|_| ())
            }
            other => other,
        }
    }

    async fn patch_existing(&self, progress: &Progress) -> Result<(), AcknowledgeError> {
        let patch = Patch::Merge(self.render(progress));
        bounded(self.leases.patch(&self.name, &PatchParams::default(), &patch)).await.map(|_| ())
    }

    fn render(&self, progress: &Progress) -> Lease {
        let acknowledgement = Acknowledgement {
            process: self.process,
            pod: self.pod.as_ref().map(|p| p.uid.clone()),
            version: if progress.listed { progress.version } else { Version::default() },
            format: FORMAT,
            quarantined: progress.quarantined.as_ref().clone(),
            schema_version: Some(TENANT_VERSION),
            connection_budget: u32::try_from(self.connection_budget).ok(),
            quarantine_overflow: progress.overflow,
        };
        let json = serde_json::to_string(&acknowledgement).unwrap_or_default();
        let owner = self.pod.as_ref().map(|pod| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.0.clone(),
            ..OwnerReference::default()
        });
        // Missing two heartbeats is forgiven.
        let duration = i32::try_from(self.settings.heartbeat_seconds.saturating_mul(3)).unwrap_or(i32::MAX);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([(ACK_LABEL.to_owned(), ACK_LABEL_VALUE.to_owned())])),
                annotations: Some(BTreeMap::from([(ACK_ANNOTATION.to_owned(), json)])),
                owner_references: owner.map(|o| vec![o]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.process.to_string()),
                lease_duration_seconds: Some(duration),
                renew_time: Some(MicroTime(self.clock.now())),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Why the Lease wasn't written.
#[derive(Debug, thiserror::Error)]
enum AcknowledgeError {
    #[error("the API server refused the Lease")]
    Api(#[source] kube::Error),
    #[error("the API server did not answer in time")]
    Timeout,
}

async fn bounded<T>(write: impl Future<Output = Result<T, kube::Error>>) -> Result<T, AcknowledgeError> {
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Ok(result) => result.map_err(AcknowledgeError::Api),
        Err(_) => Err(AcknowledgeError::Timeout),
    }
}
