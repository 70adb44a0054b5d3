//! Orphans: entries and data of objects that were deleted without the operator (the finalizer was removed by hand, or an older
//! etcd was restored). They are removed as in a deletion, and the data is retained.
//!
//! Nothing is decided here. Whatever has no object in the cache is enqueued; its reconcile asks the API server, not a cache,
//! before it changes anything.

use super::undecodable::{salvage_agent, salvage_tenant};
use crate::controller::{
    context::OperatorContext,
    failures::TaskFailures,
    queue::work_queue::{Priority, Target},
};
use crate::{
    api::{AgentConfig, Tenant},
    domain::{
        entry::Entry,
        ident::{ObjectId, TenantId, Uid},
    },
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        kubernetes::{
            cache::{Cache, Key},
            objects::{Broken, Owned, Watched},
        },
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// A Tenant for the deletion of its remains: its id, and no policy, which counts as `Retain`.
pub fn resolve_vanished_tenant(object: &ObjectId, tenant_id: &TenantId, now: Timestamp) -> Tenant {
    salvage_tenant(&remains(object, now), &json!({ "spec": { "tenantId": tenant_id.as_str() } }))
}

/// An AgentConfig for the deletion of its remains.
pub fn resolve_vanished_agent(object: &ObjectId, now: Timestamp) -> AgentConfig {
    salvage_agent(&remains(object, now), &Value::Null)
}

fn remains(object: &ObjectId, now: Timestamp) -> Broken {
    let metadata = ObjectMeta {
        namespace: Some(object.namespace.clone()),
        name: Some(object.name.clone()),
        uid: Some(object.uid.0.clone()),
        deletion_timestamp: Some(Time(now)),
        ..ObjectMeta::default()
    };
    Broken { metadata, error: String::new() }
}

/// Whether the cache has an object of this name and UID.
pub(crate) fn exists<K: Owned>(cache: &Cache<Watched<K>>, key: &Key, uid: &Uid) -> bool {
    cache.get(key).is_some_and(|w| w.metadata().uid.as_deref() == Some(uid.0.as_str()))
}

/// Searches for orphans in the registry, at once and then periodically.
pub(crate) async fn search_registry(context: Arc<OperatorContext>, period: Duration) {
    loop {
        context.enqueue_registry_orphans();
        tokio::time::sleep(context.scheduler.spread(period)).await;
    }
}

/// Searches for orphans in the ledger of a database, with one query, at once and then periodically.
pub(crate) async fn search_ledger(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    let mut state = breaker.follow();
    let mut failures = TaskFailures::new(&context.metrics, "orphans", breaker.name());
    loop {
        if state.wait_for(BreakerState::is_closed).await.is_err() {
            return;
        }
        match context.enqueue_ledger_orphans(&breaker).await {
            Ok(()) => failures.succeed(),
            Err(error) => {
                failures.record(&error);
            }
        }
        tokio::time::sleep(context.scheduler.spread(period)).await;
    }
}

impl OperatorContext {
    /// Records that every watch has its first list: from now on an object that is not in a cache may be deleted.
    pub(crate) fn note_synced(&self) {
        // Set once, here only.
        let _ = self.synced.set(());
    }

    fn may_be_deleted(&self, namespace: &str) -> bool {
        let is_managed = self.watched.is_empty() || self.watched.iter().any(|n| n == namespace);
        is_managed && self.synced.get().is_some()
    }

    /// Enqueues the remains of a Tenant that does not exist any more.
    pub(crate) fn enqueue_orphaned_tenant(&self, object: &ObjectId, tenant_id: &TenantId) {
        let key = Key::new(&object.namespace, &object.name);
        if self.may_be_deleted(&key.namespace) && !exists(&self.world.tenants.cache, &key, &object.uid) {
            let target = Target::VanishedTenant(key, object.uid.clone(), tenant_id.clone());
            self.scheduler.push(target, Priority::Change);
        }
    }

    /// Enqueues the remains of an AgentConfig that does not exist any more.
    pub(crate) fn enqueue_orphaned_agent(&self, object: &ObjectId) {
        let key = Key::new(&object.namespace, &object.name);
        if self.may_be_deleted(&key.namespace) && !exists(&self.world.agents.cache, &key, &object.uid) {
            self.scheduler.push(Target::VanishedAgent(key, object.uid.clone()), Priority::Change);
        }
    }

    fn enqueue_registry_orphans(&self) {
        for (_, record) in self.world.registry.cache.all() {
            match &record.entry {
                Ok(Entry::Tenant(entry)) => self.enqueue_orphaned_tenant(&entry.object(), &entry.tenant_id),
                Ok(Entry::Agent(entry)) => self.enqueue_orphaned_agent(&entry.object()),
                Ok(Entry::Upstream(_) | Entry::Cell(_)) | Err(_) => {}
            }
        }
    }

    async fn enqueue_ledger_orphans(&self, breaker: &CircuitBreaker) -> Result<(), crate::effects::error::EffectError> {
        for (tenant_id, object) in self.world.observe_owners(breaker).await? {
            self.enqueue_orphaned_tenant(&object, &tenant_id);
        }
        Ok(())
    }
}
