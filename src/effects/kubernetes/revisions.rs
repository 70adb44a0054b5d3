//! Revisions of AgentConfigs, stored as ControllerRevisions that the AgentConfig owns (apps/v1), so that the registry
//! can always be derived from them.

use super::{
    error::{bounded, required, unless_taken},
    fence::LeaseFence,
};
use crate::{
    api::{AgentConfig, names},
    domain::{
        class::ErrorClass,
        entry::Behaviour,
        ident::{ObjectId, Version},
    },
    effects::error::EffectError,
    plan::{
        observed::{RevisionView, Seen},
        step::Done,
    },
};
use k8s_openapi::{
    api::apps::v1::ControllerRevision,
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        runtime::RawExtension,
    },
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, PostParams, VersionMatch},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Annotation with the hash of a revision's behaviour.
const HASH: &str = "agent-tenancy.dev/revision-hash";

/// The revisions.
#[derive(Clone)]
pub struct Revisions {
    client: Client,
    fence: LeaseFence,
    /// The newest `resourceVersion` that was read or written.
    seen: Arc<AtomicU64>,
}

impl Revisions {
    pub(crate) fn new(client: Client, fence: LeaseFence) -> Self {
        Self { client, fence, seen: Arc::default() }
    }

    fn api(&self, namespace: &str) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The revisions of an AgentConfig, including our own last writes.
    pub(crate) async fn observe(&self, owner: &ObjectId) -> Seen<Vec<RevisionView>> {
        let mut params = ListParams::default().labels(&format!("{}={}", names::AGENT_UID_LABEL, owner.uid));
        // Only the operator writes them, so the API server's cache is sufficient if it includes our writes. For the very
        // latest version it would wait until etcd has reported its progress, for up to 100 ms.
        let seen = self.seen.load(Ordering::Relaxed);
        if seen > 0 {
            params = params.at(&seen.to_string()).matching(VersionMatch::NotOlderThan);
        }
        match required("list the revisions", self.api(&owner.namespace).list(&params)).await {
            Ok(list) => {
                self.note(list.metadata.resource_version.as_deref());
                let mut revisions: Vec<RevisionView> = list.items.iter().map(view).collect();
                revisions.sort_by_key(|r| r.number);
                Seen::Ours(revisions)
            }
            Err(error) => {
                // The API server may be older than our version: restored from a backup.
                self.seen.store(0, Ordering::Relaxed);
                Seen::Unknown(error.read_error())
            }
        }
    }

    fn note(&self, version: Option<&str>) {
        if let Some(Version(version)) = version.and_then(Version::parse) {
            self.seen.fetch_max(version, Ordering::Relaxed);
        }
    }

    /// Creates a revision. Its name is derived from its number, so a repeated step finds the same object.
    ///
    /// # Errors
    /// As any request; `Transient` if the number is in use for another behaviour.
    pub(crate) async fn perform_create(
        &self,
        owner: &ObjectId,
        number: i64,
        hash: &str,
        behaviour: &Behaviour,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let name = format!("{}-{number}", owner.name);
        let data = serde_json::to_value(behaviour)
            .map_err(|e| EffectError::from_source(ErrorClass::Bug, "a behaviour can't be serialised", e))?;
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([
                    ("app.kubernetes.io/managed-by".to_owned(), "agent-tenancy".to_owned()),
                    (names::AGENT_UID_LABEL.to_owned(), owner.uid.0.clone()),
                ])),
                annotations: Some(BTreeMap::from([(HASH.to_owned(), hash.to_owned())])),
                owner_references: Some(vec![OwnerReference {
                    api_version: AgentConfig::api_version(&()).into_owned(),
                    kind: AgentConfig::kind(&()).into_owned(),
                    name: owner.name.clone(),
                    uid: owner.uid.0.clone(),
                    controller: Some(true),
                    block_owner_deletion: Some(false),
                }]),
                ..ObjectMeta::default()
            },
            revision: number,
            data: Some(RawExtension(data)),
        };
        let api = self.api(&owner.namespace);
        let what = format!("create revision {number} of {owner}");
        if unless_taken(&what, api.create(&PostParams::default(), &revision)).await?.is_some() {
            return Ok(Done::Plain);
        }
        let existing = required(&what, api.get(&name)).await?;
        let ours = existing.metadata.labels.as_ref().and_then(|l| l.get(names::AGENT_UID_LABEL)) == Some(&owner.uid.0);
        if ours && view(&existing).hash == hash {
            return Ok(Done::Plain);
        }
        let what = format!("ControllerRevision '{name}' is in use; the next reconcile reads the revisions again");
        Err(EffectError::new(ErrorClass::Transient, what))
    }

    /// Deletes an old revision. A deleted one counts as done.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn perform_delete(&self, owner: &ObjectId, name: &str) -> Result<Done, EffectError> {
        self.fence.check()?;
        let api = self.api(&owner.namespace);
        bounded("delete an old revision", api.delete(name, &DeleteParams::default())).await?;
        Ok(Done::Plain)
    }
}

fn view(revision: &ControllerRevision) -> RevisionView {
    let hash = revision.metadata.annotations.as_ref().and_then(|a| a.get(HASH)).cloned();
    RevisionView {
        name: revision.metadata.name.clone().unwrap_or_default(),
        number: revision.revision,
        hash: hash.unwrap_or_default(),
    }
}
