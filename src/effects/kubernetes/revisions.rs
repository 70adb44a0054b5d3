//! Revisions of AgentConfigs, kept as ControllerRevisions that the AgentConfig owns (apps/v1), so that the registry can
//! always be derived again.

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
        observed::{ReadError, RevisionView, Seen},
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
    /// Everything up to here has been seen, or written by us.
    seen: Arc<AtomicU64>,
}

impl Revisions {
    /// Revisions behind this client.
    pub fn new(client: Client, fence: LeaseFence) -> Self {
        Self { client, fence, seen: Arc::default() }
    }

    fn api(&self, namespace: &str) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The revisions of an AgentConfig, our own last writes among them.
    pub async fn observe(&self, owner: &ObjectId) -> Seen<Vec<RevisionView>> {
        let mut params = ListParams::default().labels(&format!("{}={}", names::AGENT_UID_LABEL, owner.uid));
        // Nobody else writes them, so what the API server remembers is enough once it knows what we know. To be told of
        // the very latest it would wait until etcd has reported the progress of all resources, for up to 100 ms.
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
                // It may know less than we do: restored from a backup.
                self.seen.store(0, Ordering::Relaxed);
                Seen::Unknown(ReadError { class: error.class, note: error.chain() })
            }
        }
    }

    fn note(&self, version: Option<&str>) {
        if let Some(Version(version)) = version.and_then(Version::parse) {
            self.seen.fetch_max(version, Ordering::Relaxed);
        }
    }

    /// Keeps a revision. Its name follows from its number, so repeating the step meets the same object.
    ///
    /// # Errors
    /// As any request; `Conflict` if the number is taken by another behaviour.
    pub async fn perform_create(
        &self,
        owner: &ObjectId,
        number: i64,
        hash: &str,
        behaviour: &Behaviour,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let name = format!("{}-{number}", owner.name);
        let data = serde_json::to_value(behaviour)
            .map_err(|e| EffectError::from_source(ErrorClass::Bug, "a behaviour has no JSON form", e))?;
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
        let what = format!("keep revision {number} of {owner}");
        if unless_taken(&what, api.create(&PostParams::default(), &revision)).await?.is_some() {
            return Ok(Done::Plain);
        }
        let there = required(&what, api.get(&name)).await?;
        let ours = there.metadata.labels.as_ref().and_then(|l| l.get(names::AGENT_UID_LABEL)) == Some(&owner.uid.0);
        if ours && view(&there).hash == hash {
            return Ok(Done::Plain);
        }
        let what = format!("ControllerRevision '{name}' is in use; the next pass looks again");
        Err(EffectError::new(ErrorClass::Transient, what))
    }

    /// Deletes an old revision. One that is gone counts as done.
    ///
    /// # Errors
    /// As any request.
    pub async fn perform_delete(&self, owner: &ObjectId, name: &str) -> Result<Done, EffectError> {
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
