//! Which objects a change enqueues. The operator's writes of finalizers and status enqueue none.

use crate::controller::{
    context::OperatorContext,
    queue::work_queue::{Priority, Target},
    reconcile::{
        tenant::{resolve_claimant, tenant_id},
        worker::tenant_target,
    },
};
use crate::{
    api::{AgentConfig, Condition, ConditionType, Tenant},
    domain::{
        entry::{AgentEntry, Entry, TenantEntry, agent_entry_name},
        ident::{ObjectId, Uid},
    },
    effects::kubernetes::{
        cache::{CacheChange, Key},
        claims::TenantIdClaim,
        objects::{Owned, Watched},
        registry::RegistryChange,
    },
    status::find,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

/// Whether a change of an object is more than the operator's finalizer or status.
fn is_relevant<K: Owned>(change: &CacheChange<Watched<K>>) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    let (old, new) = (before.metadata(), after.metadata());
    let ours = |meta: &ObjectMeta| meta.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == K::FINALIZER));
    old.uid != new.uid
        || old.generation != new.generation
        || old.annotations != new.annotations
        || old.deletion_timestamp.is_some() != new.deletion_timestamp.is_some()
        || (ours(old) && !ours(new))
        || before.object.is_ok() != after.object.is_ok()
}

impl OperatorContext {
    /// Enqueues the objects that a change of a Tenant concerns.
    pub(crate) fn tenant_changed(&self, key: &Key, change: &CacheChange<Watched<Tenant>>) {
        let decoded = |w: &Watched<Tenant>| w.object.as_ref().ok().cloned();
        let before = change.before.as_deref().and_then(decoded);
        let after = change.after.as_deref().and_then(decoded);
        let claim =
            after.as_ref().and_then(|t| tenant_id(t).map(|id| TenantIdClaim { id, claimant: resolve_claimant(t) }));
        let freed = before.as_ref().and_then(tenant_id);
        let deleting = after.as_ref().is_some_and(|t| t.metadata.deletion_timestamp.is_some());
        let claimed = claim.as_ref().map(|claim| claim.id.clone());
        self.world.claims.set(key, claim);
        if !is_relevant(change) {
            return;
        }
        self.note_tenant_deleted(change);
        let target = Target::Tenant(key.clone());
        self.scheduler.reset_attempts(&target);
        self.scheduler.push(target, priority_of(change));
        // A Tenant that lost the tenant id is enqueued when its owner goes.
        if let Some(id) = freed.filter(|id| deleting || claimed.as_ref() != Some(id)) {
            for other in self.world.claims.claimants(&id).into_iter().filter(|other| other != key) {
                self.scheduler.push(Target::Tenant(other), Priority::Change);
            }
        }
        let refers = |tenant: Option<&Tenant>| -> BTreeSet<String> {
            tenant.into_iter().flat_map(|t| t.spec.agents.iter().map(|a| a.config_ref.name.clone())).collect()
        };
        let (old, new) = (refers(before.as_ref()), refers(after.as_ref().filter(|_| !deleting)));
        for name in old.difference(&new) {
            self.enqueue_deleted_agent(&Key::new(&key.namespace, name));
        }
    }

    /// Enqueues the orphaned entry of a deleted Tenant. Usually the entry was deleted first.
    fn note_tenant_deleted(&self, change: &CacheChange<Watched<Tenant>>) {
        let Some(Ok(tenant)) = change.before.as_deref().map(|w| w.object.as_ref()) else { return };
        let object = resolve_claimant(tenant).object;
        let ended = change.after.as_ref().is_none_or(|w| w.metadata().uid.as_ref() != Some(&object.uid.0));
        let entry = tenant_id(tenant).filter(|_| ended).and_then(|id| self.world.registry.tenant_entry(&id));
        if let Some(entry) = entry.filter(|e| e.uid == object.uid) {
            self.enqueue_orphaned_tenant(&object, &entry.tenant_id);
        }
    }

    /// Enqueues the objects that a change of an AgentConfig concerns: its Tenants only when it is created or deleted.
    pub(crate) fn agent_changed(&self, key: &Key, change: &CacheChange<Watched<AgentConfig>>) {
        if !is_relevant(change) {
            return;
        }
        // Usually its entry was deleted first.
        let before = change.before.as_ref().and_then(|w| w.metadata().uid.clone()).map(Uid);
        let ended =
            before.filter(|uid| change.after.as_ref().is_none_or(|w| w.metadata().uid.as_ref() != Some(&uid.0)));
        if let Some(uid) = ended.filter(|uid| self.world.registry.holds(&agent_entry_name(uid))) {
            self.enqueue_orphaned_agent(&ObjectId { namespace: key.namespace.clone(), name: key.name.clone(), uid });
        }
        let target = Target::Agent(key.clone());
        self.scheduler.reset_attempts(&target);
        self.scheduler.push(target, priority_of(change));
        let life = |w: Option<&Watched<AgentConfig>>| {
            w.filter(|w| w.metadata().deletion_timestamp.is_none()).map(|w| w.metadata().uid.clone())
        };
        // An AgentConfig that is being deleted may still be in use when it is gone.
        if change.after.is_none() || life(change.before.as_deref()) != life(change.after.as_deref()) {
            self.enqueue_users(key);
        }
    }

    /// Enqueues the objects that a change of the registry concerns.
    pub(crate) fn registry_changed(&self, changes: &RegistryChange) {
        match (changes.before.as_ref(), changes.after.as_ref()) {
            (Some(Entry::Tenant(entry)), _) | (_, Some(Entry::Tenant(entry))) => {
                self.tenant_entry_changed(entry, changes);
            }
            (Some(Entry::Agent(entry)), after) => self.agent_entry_changed(entry, after.is_none(), changes.own),
            (None, Some(Entry::Agent(entry))) => self.agent_entry_changed(entry, true, changes.own),
            // A request by annotation leaves the entry as it is.
            (Some(Entry::Cell(_)), _) | (None, Some(Entry::Cell(_))) => {
                if !changes.own {
                    self.logins_changed.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
            (Some(Entry::Upstream(_)), _) | (None, Some(Entry::Upstream(_)) | None) => {}
        }
    }

    fn tenant_entry_changed(&self, entry: &TenantEntry, changes: &RegistryChange) {
        if !changes.own {
            self.scheduler.push(tenant_target(&entry.namespace, &entry.name), Priority::Change);
        }
        // Also an entry that the operator just created: its Tenant may have been deleted at the same time.
        if let Some(Entry::Tenant(entry)) = changes.after.as_ref().filter(|_| !changes.own || changes.before.is_none())
        {
            self.enqueue_orphaned_tenant(&entry.object(), &entry.tenant_id);
        }
        // Objects that wait for the id, or for an AgentConfig of this entry, may continue.
        if changes.after.is_none() {
            for other in self.world.claims.claimants(&entry.tenant_id) {
                self.scheduler.push(Target::Tenant(other), Priority::Change);
            }
        }
        let uses = |entry: Option<&Entry>| -> BTreeSet<String> {
            match entry {
                Some(Entry::Tenant(e)) => e.agents.values().map(|a| a.config_uid.0.clone()).collect(),
                Some(Entry::Agent(_) | Entry::Upstream(_) | Entry::Cell(_)) | None => BTreeSet::new(),
            }
        };
        if uses(changes.before.as_ref()) != uses(changes.after.as_ref()) {
            for (key, watched) in self.world.agents.cache.all() {
                if key.namespace == entry.namespace && watched.metadata().deletion_timestamp.is_some() {
                    self.scheduler.push(Target::Agent(key), Priority::Change);
                }
            }
            for uid in uses(changes.before.as_ref()).difference(&uses(changes.after.as_ref())) {
                if let Some(Entry::Agent(entry)) = self.world.registry.entry(&agent_entry_name(&Uid(uid.clone()))) {
                    self.enqueue_orphaned_agent(&entry.object());
                }
            }
        }
    }

    fn agent_entry_changed(&self, entry: &AgentEntry, created_or_deleted: bool, own: bool) {
        let key = Key::new(&entry.namespace, &entry.name);
        if !own {
            self.scheduler.push(Target::Agent(key.clone()), Priority::Change);
            if self.world.registry.holds(&agent_entry_name(&entry.uid)) {
                self.enqueue_orphaned_agent(&entry.object());
            }
        }
        if created_or_deleted {
            self.enqueue_users(&key);
        }
    }

    /// Enqueues the Tenants that name an AgentConfig.
    fn enqueue_users(&self, agent: &Key) {
        for (key, watched) in self.world.tenants.cache.all() {
            let Ok(tenant) = &watched.object else { continue };
            if key.namespace == agent.namespace && tenant.spec.agents.iter().any(|a| a.config_ref.name == agent.name) {
                self.scheduler.push(Target::Tenant(key), Priority::Change);
            }
        }
    }

    fn enqueue_deleted_agent(&self, key: &Key) {
        let is_deleted = self.world.agents.cache.get(key).is_some_and(|w| w.metadata().deletion_timestamp.is_some());
        if is_deleted {
            self.scheduler.push(Target::Agent(key.clone()), Priority::Change);
        }
    }
}

/// The priority of a changed object. After a start, objects that were ready come after those that were not; their reconcile
/// does not depend on it.
fn priority_of<K: Owned + HasConditions>(change: &CacheChange<Watched<K>>) -> Priority {
    let is_first = change.before.is_none();
    let was_ready = change.after.as_ref().is_some_and(|w| w.object.as_ref().is_ok_and(HasConditions::was_ready));
    if is_first && was_ready { Priority::Periodic } else { Priority::Change }
}

trait HasConditions {
    fn was_ready(&self) -> bool;
}

impl HasConditions for Tenant {
    fn was_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|s| is_ready(&self.metadata, s.observed_generation, &s.conditions))
    }
}

impl HasConditions for AgentConfig {
    fn was_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|s| is_ready(&self.metadata, s.observed_generation, &s.conditions))
    }
}

fn is_ready(metadata: &ObjectMeta, observed_generation: Option<i64>, conditions: &[Condition]) -> bool {
    metadata.deletion_timestamp.is_none()
        && observed_generation == metadata.generation
        && find(conditions, ConditionType::Ready).is_some_and(|c| c.status == "True")
}
