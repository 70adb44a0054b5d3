//! What is left of objects that vanished without us (somebody took the finalizer off, or an older etcd came back): found
//! here, and taken away as in a deletion, with the data kept.
//!
//! Nothing is decided here. Whatever looks as if its object were gone is queued; its pass asks the API server, not a
//! cache, before it changes anything.

use super::undecodable::{salvage_agent, salvage_tenant};
use crate::controller::{
    context::Context,
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

/// A Tenant as its deletion needs it: id, and an unreadable policy, which counts as `Retain`.
pub fn resolve_vanished_tenant(object: &ObjectId, tenant_id: &TenantId, now: Timestamp) -> Tenant {
    salvage_tenant(&remains(object, now), &json!({ "spec": { "tenantId": tenant_id.as_str() } }))
}

/// An AgentConfig as its deletion needs it.
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

/// Whether the object in the cache lives the life that `uid` names.
pub(crate) fn lives<K: Owned>(cache: &Cache<Watched<K>>, key: &Key, uid: &Uid) -> bool {
    cache.get(key).is_some_and(|w| w.metadata().uid.as_deref() == Some(uid.0.as_str()))
}

/// Looks for leftovers in the registry at once, and then ever again.
pub(crate) async fn collect(context: Arc<Context>, period: Duration) {
    loop {
        context.sweep_registry();
        tokio::time::sleep(context.scheduler.spread(period)).await;
    }
}

/// The same in the ledger of a database, with one query.
pub(crate) async fn collect_in(context: Arc<Context>, breaker: CircuitBreaker, period: Duration) {
    let mut state = breaker.follow();
    loop {
        if state.wait_for(BreakerState::is_open).await.is_err() {
            return;
        }
        if let Err(error) = context.sweep_ledger(&breaker).await {
            tracing::debug!(
                instance = breaker.name(),
                error = error.chain(),
                "the ledger was not compared with the Tenants"
            );
        }
        tokio::time::sleep(context.scheduler.spread(period)).await;
    }
}

impl Context {
    /// Every list is in: from now on what is not in a cache may be taken for gone.
    pub fn note_synced(&self) {
        // Set once; nobody else does.
        let _ = self.synced.set(());
    }

    fn may_be_gone(&self, namespace: &str) -> bool {
        let ours = self.watched.is_empty() || self.watched.iter().any(|n| n == namespace);
        ours && self.synced.get().is_some()
    }

    /// Queues what is left of a Tenant, if it is not there any more.
    pub(crate) fn note_tenant_left(&self, object: &ObjectId, tenant_id: &TenantId) {
        let key = Key::new(&object.namespace, &object.name);
        if self.may_be_gone(&key.namespace) && !lives(&self.world.tenants.cache, &key, &object.uid) {
            let target = Target::VanishedTenant(key, object.uid.clone(), tenant_id.clone());
            self.scheduler.push(target, Priority::Change);
        }
    }

    /// Queues what is left of an AgentConfig, if it is not there any more.
    pub(crate) fn note_agent_left(&self, object: &ObjectId) {
        let key = Key::new(&object.namespace, &object.name);
        if self.may_be_gone(&key.namespace) && !lives(&self.world.agents.cache, &key, &object.uid) {
            self.scheduler.push(Target::VanishedAgent(key, object.uid.clone()), Priority::Change);
        }
    }

    fn sweep_registry(&self) {
        for (_, record) in self.world.registry.cache.all() {
            match &record.entry {
                Ok(Entry::Tenant(entry)) => self.note_tenant_left(&entry.object(), &entry.tenant_id),
                Ok(Entry::Agent(entry)) => self.note_agent_left(&entry.object()),
                Ok(Entry::Upstream(_) | Entry::Cell(_)) | Err(_) => {}
            }
        }
    }

    async fn sweep_ledger(&self, breaker: &CircuitBreaker) -> Result<(), crate::effects::error::EffectError> {
        for (tenant_id, object) in self.world.observe_owners(breaker).await? {
            self.note_tenant_left(&object, &tenant_id);
        }
        Ok(())
    }
}
