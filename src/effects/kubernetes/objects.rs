//! Writes to Tenants and AgentConfigs: finalizer, status, events. Never the spec.

use super::{
    cache::{Cache, Key, Versioned},
    error::{bounded, required},
    fence::LeaseFence,
    watch::{key_of, version_of},
};
use crate::{
    api::{Notice, NoticeKind, Reason, names},
    domain::{
        class::ErrorClass,
        ident::{ObjectId, Version},
    },
    effects::error::EffectError,
    plan::{
        observed::Presence,
        step::{Done, ObjectStep},
    },
};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{DeserializeGuard, DynamicObject},
};
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::fmt::Debug;

/// A watched object: decoded, or the reason why it can't be decoded.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    /// `metadata.resourceVersion`.
    pub(crate) version: Version,
    /// The object without its managed fields, or its metadata and the error.
    pub(crate) object: Result<K, Broken>,
}

/// The annotation of `kubectl apply`: a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object that does not decode.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The object's metadata.
    pub(crate) metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    /// Why it can't be decoded.
    pub(crate) error: String,
}

impl<K: Send + Sync + 'static> Versioned for Watched<K> {
    fn version(&self) -> Version {
        self.version
    }
}

impl<K: ResourceExt> Watched<K> {
    /// Drops the fields that are not needed.
    pub(crate) fn new(guarded: DeserializeGuard<K>) -> Self {
        match guarded.0 {
            Ok(object) => Self::decoded(object),
            Err(invalid) => {
                let version = invalid.metadata.resource_version.as_deref().and_then(Version::parse).unwrap_or_default();
                Self { version, object: Err(Broken { metadata: invalid.metadata, error: invalid.error }) }
            }
        }
    }

    fn decoded(mut object: K) -> Self {
        // About a third of an object's memory, and never read. Set to `None`, because `clear` keeps the allocation.
        object.meta_mut().managed_fields = None;
        object.annotations_mut().remove(LAST_APPLIED);
        let version = object.meta().resource_version.as_deref().and_then(Version::parse).unwrap_or_default();
        Self { version, object: Ok(object) }
    }

    /// The metadata, also of an object that can't be decoded.
    pub(crate) fn metadata(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        match &self.object {
            Ok(object) => object.meta(),
            Err(broken) => &broken.metadata,
        }
    }
}

/// A kind of object that [`Objects`] writes.
pub trait Owned:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The operator's finalizer on objects of this kind.
    const FINALIZER: &'static str;
}

impl Owned for crate::api::Tenant {
    const FINALIZER: &'static str = names::TENANT_FINALIZER;
}

impl Owned for crate::api::AgentConfig {
    const FINALIZER: &'static str = names::AGENT_CONFIG_FINALIZER;
}

/// All objects of one kind.
#[derive(Clone)]
pub struct Objects<K: Owned> {
    client: Client,
    fence: LeaseFence,
    reporter: Reporter,
    /// Counts repeated warnings instead of writing a new event for each; for that it stores every event for minutes.
    warnings: Recorder,
    /// The objects in the API server.
    pub(crate) cache: Cache<Watched<K>>,
}

impl<K: Owned> Objects<K> {
    pub(crate) fn new(client: Client, fence: LeaseFence, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance };
        let warnings = Recorder::new(client.clone(), reporter.clone());
        Self { client, fence, reporter, warnings, cache: Cache::default() }
    }

    /// Guarded, because the reply to a write is the whole object, which may be undecodable.
    fn api(&self, namespace: &str) -> Api<DeserializeGuard<K>> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The cached object, if it still has the UID of `id`.
    fn current(&self, id: &ObjectId) -> Result<std::sync::Arc<Watched<K>>, EffectError> {
        let found = self.cache.get(&Key::new(&id.namespace, &id.name));
        found
            .filter(|w| w.metadata().uid.as_deref() == Some(id.uid.0.as_str()))
            .ok_or_else(|| EffectError::new(ErrorClass::Transient, format!("{id} was deleted or recreated")))
    }

    /// Whether the object exists. For an object that vanished from the cache, the API server is asked.
    pub(crate) async fn observe_presence(&self, id: &ObjectId, vanished: bool) -> Presence {
        if !vanished {
            return Presence::Cached;
        }
        match bounded(&format!("check whether {id} exists"), self.api(&id.namespace).get_metadata(&id.name)).await {
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(id.uid.0.as_str()) => Presence::Alive,
            Ok(Some(_) | None) => Presence::Gone,
            Err(error) => Presence::Unknown(error.read_error()),
        }
    }

    /// The stored JSON of an object that can't be decoded.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe_raw(&self, key: &Key) -> Result<Option<serde_json::Value>, EffectError> {
        let resource = kube::core::ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        Ok(bounded("read the stored object", api.get(&key.name)).await?.map(|object| object.data))
    }

    fn keep(&self, object: DeserializeGuard<K>) -> Done {
        let (key, version) = (key_of(&object), version_of(&object));
        self.cache.apply(key, Watched::new(object));
        tracing::trace!(%version, "cached our own write");
        Done::Plain
    }

    /// Performs one step.
    ///
    /// # Errors
    /// As any request; `Transient` when the object changed since it was read.
    pub(crate) async fn perform<S: Serialize>(&self, id: &ObjectId, step: &ObjectStep<S>) -> Result<Done, EffectError> {
        match step {
            ObjectStep::AddFinalizer => self.perform_add_finalizer(id).await,
            ObjectStep::RemoveFinalizer => self.perform_remove_finalizer(id).await,
            ObjectStep::WriteStatus(status) => self.perform_write_status(id, status).await,
            ObjectStep::RecordEvent(notice) => self.perform_record(id, notice).await,
        }
    }

    /// Adds the finalizer. Does nothing if it is set already.
    ///
    /// # Errors
    /// As any request; `Transient` when the object changed since it was read, or is deleted: nothing may be created for it.
    async fn perform_add_finalizer(&self, id: &ObjectId) -> Result<Done, EffectError> {
        let add = |finalizers: &mut Vec<String>| {
            if !finalizers.iter().any(|f| f == K::FINALIZER) {
                finalizers.push(K::FINALIZER.to_owned());
            }
        };
        let deleted =
            || EffectError::new(ErrorClass::Transient, format!("{id} was deleted before its finalizer was added"));
        self.set_finalizers(id, add).await?.ok_or_else(deleted)
    }

    /// Removes the finalizer. An object that is deleted counts as done.
    ///
    /// # Errors
    /// As any request; `Transient` when the object changed since it was read.
    async fn perform_remove_finalizer(&self, id: &ObjectId) -> Result<Done, EffectError> {
        let done = self.set_finalizers(id, |finalizers| finalizers.retain(|f| f != K::FINALIZER)).await?;
        Ok(done.unwrap_or(Done::Plain))
    }

    /// `None`: the object is deleted.
    async fn set_finalizers(
        &self,
        id: &ObjectId,
        change: impl FnOnce(&mut Vec<String>),
    ) -> Result<Option<Done>, EffectError> {
        let current = self.current(id)?;
        let before = current.metadata().finalizers.clone().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(Some(Done::Plain));
        }
        self.fence.check()?;
        let patch = json!({ "metadata": { "resourceVersion": current.version.to_string(), "uid": id.uid, "finalizers": after } });
        let what = format!("change the finalizers of {id}");
        let api = self.api(&id.namespace);
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = bounded(&what, api.patch(&id.name, &params, &Patch::Merge(patch))).await?;
        Ok(patched.map(|object| self.keep(object)))
    }

    /// Writes the status.
    ///
    /// # Errors
    /// As any request; `Transient` when the object changed since it was read.
    pub(crate) async fn perform_write_status(
        &self,
        id: &ObjectId,
        status: &impl Serialize,
    ) -> Result<Done, EffectError> {
        let current = self.current(id)?;
        self.fence.check()?;
        let patch = json!({
            "metadata": { "resourceVersion": current.version.to_string(), "uid": id.uid },
            "status": status,
        });
        let api = self.api(&id.namespace);
        let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("write the status of {id}");
        required(&what, api.patch_status(&id.name, &params, &Patch::Merge(patch))).await.map(|object| self.keep(object))
    }

    /// Writes an event about the object.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn perform_record(&self, id: &ObjectId, notice: &Notice) -> Result<Done, EffectError> {
        self.fence.check()?;
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: Some(id.namespace.clone()),
            name: Some(id.name.clone()),
            uid: Some(id.uid.0.clone()),
            ..ObjectReference::default()
        };
        let new_recorder = || Recorder::new(self.client.clone(), self.reporter.clone());
        let (type_, recorder) = match (notice.kind, notice.reason) {
            // Recorded about once per object: a series of them does not occur.
            (NoticeKind::Normal, _) => (EventType::Normal, new_recorder()),
            // Each note is different; a series would keep the first note.
            (NoticeKind::Warning, Reason::DriftRepaired | Reason::LossAccepted) => (EventType::Warning, new_recorder()),
            (NoticeKind::Warning, _) => (EventType::Warning, self.warnings.clone()),
        };
        let event = Event {
            type_,
            reason: notice.reason.as_str().to_owned(),
            note: Some(truncate(&notice.note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        required(&format!("record an event about {id}"), recorder.publish(&event, &reference)).await?;
        Ok(Done::Plain)
    }
}

/// events.k8s.io/v1 allows 1 kB.
const MAX_NOTE: usize = 1000;

fn truncate(note: &str) -> String {
    let end = (0..=MAX_NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
    note[..end].to_owned()
}
