//! The tenant registry; the operator is its only writer. An entry is written before the entries that refer to it, and
//! deleted only when no entry refers to it; a lock separates the two.

use super::{
    cache::{Cache, CacheChange, Key},
    entries::{Beside, Record, render_secret},
    error::{bounded, unless_changed},
    fence::LeaseFence,
    keys::{ObjectVersion, preconditions},
    watch::version_of,
};
use crate::{
    domain::{
        class::ErrorClass,
        entry::{AgentEntry, CellEntry, Entry, TenantEntry, agent_entry_name, upstream_entry_name},
        ident::{DatabaseId, ObjectId, TenantId, Uid, Version},
    },
    effects::error::EffectError,
    plan::{
        observed::{AgentEntryView, EntryView, LastReference, Seen, data_owner::TAKEN},
        step::Done,
    },
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PostParams};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{RwLock, mpsc};

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Registry {
    api: Api<Secret>,
    namespace: String,
    fence: LeaseFence,
    /// The Secrets of the registry.
    pub(crate) cache: Cache<Record>,
    /// Shared by writers of references, exclusive for the deletion of an entry that may be referred to.
    references: Arc<RwLock<()>>,
    memory: Arc<Mutex<Memory>>,
    changes: mpsc::UnboundedSender<RegistryChange>,
}

/// One change of the registry.
#[derive(Clone, Debug)]
pub struct RegistryChange {
    /// The entry before the change, if it was readable.
    pub(crate) before: Option<Entry>,
    /// The entry after the change, if it is readable.
    pub(crate) after: Option<Entry>,
    /// Whether this process wrote it.
    pub(crate) own: bool,
}

#[derive(Default)]
struct Memory {
    /// When the last reference to an entry was removed.
    dropped: BTreeMap<String, LastReference>,
    /// Entries that this process is writing: their changes are its own.
    in_flight: BTreeSet<String>,
    /// Entries that are deleted, and that the watch has not removed from the cache yet.
    deleting: BTreeSet<String>,
}

impl Registry {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        fence: LeaseFence,
        changes: mpsc::UnboundedSender<RegistryChange>,
    ) -> Self {
        Self {
            changes,
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            fence,
            cache: Cache::default(),
            references: Arc::default(),
            memory: Arc::default(),
        }
    }

    /// The Secrets of the registry.
    pub(crate) fn api(&self) -> Api<Secret> {
        self.api.clone()
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The time of the clock that measures leadership.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.fence.now()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> Key {
        Key::new(&self.namespace, name)
    }

    /// One Secret of the registry, readable or not.
    pub(crate) fn record(&self, name: &str) -> Option<Arc<Record>> {
        self.cache.get(&self.key(name))
    }

    /// Records a change of the cache and forwards it.
    pub(crate) fn note_change(&self, key: &Key, change: &CacheChange<Record>) {
        let mut memory = self.memory();
        let (before, after) = (refers_to(change.before.as_deref()), refers_to(change.after.as_deref()));
        for name in before.difference(&after) {
            let last = LastReference { version: change.version, since: self.fence.now() };
            memory.dropped.insert(name.clone(), last);
        }
        memory.deleting.remove(&key.name);
        let readable = |record: &Option<Arc<Record>>| record.as_ref().and_then(|r| r.entry.clone().ok());
        let own = memory.in_flight.contains(&key.name);
        drop(memory);
        // The receiver is gone when the process is ending.
        let _ =
            self.changes.send(RegistryChange { before: readable(&change.before), after: readable(&change.after), own });
    }

    /// Name of the entry of a tenant id: the one that it has, or else the one that it would get.
    pub(crate) fn tenant_entry_name(&self, tenant: &TenantId) -> String {
        let is_its =
            |name: &String| matches!(self.entry(name), Some(Entry::Tenant(entry)) if entry.tenant_id == *tenant);
        tenant.earlier_entry_name().filter(is_its).unwrap_or_else(|| tenant.entry_name())
    }

    /// The entry of a tenant id, with its ownership judged for a Tenant. The owner is named in its own namespace only.
    pub(crate) fn observe_tenant(&self, tenant: &TenantId, object: &ObjectId) -> Seen<EntryView> {
        let name = self.tenant_entry_name(tenant);
        let Some(record) = self.record(&name) else { return Seen::Missing };
        let entry = match &record.entry {
            Ok(Entry::Tenant(entry)) => Some(entry.as_ref().clone()),
            Ok(_) | Err(_) => None,
        };
        let owner = entry.as_ref().map(|e| &e.uid).or(record.owner.as_ref());
        if owner != Some(&object.uid) {
            return Seen::Foreign(match entry {
                Some(e) if e.namespace == object.namespace => {
                    format!("the registry gives this tenant id to Tenant {}/{} (UID {})", e.namespace, e.name, e.uid)
                }
                Some(_) => TAKEN.to_owned(),
                None => format!("registry Secret '{name}' does not belong to this Tenant"),
            });
        }
        Seen::Ours(EntryView { secret_uid: record.uid.clone(), version: record.version, entry })
    }

    pub(crate) fn observe_agent(&self, uid: &Uid) -> Seen<AgentEntryView> {
        let Some(record) = self.record(&agent_entry_name(uid)) else { return Seen::Missing };
        let entry = match &record.entry {
            Ok(Entry::Agent(entry)) if entry.uid == *uid => Some(entry.as_ref().clone()),
            Ok(_) | Err(_) => None,
        };
        Seen::Ours(AgentEntryView { secret_uid: record.uid.clone(), version: record.version, entry })
    }

    /// Whether an entry of this name exists, is readable and is not being deleted.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.record(name).is_some_and(|r| r.entry.is_ok()) && !self.memory().deleting.contains(name)
    }

    /// One readable entry.
    pub(crate) fn entry(&self, name: &str) -> Option<Entry> {
        self.record(name).and_then(|r| r.entry.clone().ok())
    }

    /// The entry of a tenant, if it is readable and not being deleted.
    pub(crate) fn tenant_entry(&self, tenant: &TenantId) -> Option<TenantEntry> {
        let name = self.tenant_entry_name(tenant);
        match self.entry(&name) {
            Some(Entry::Tenant(entry)) if self.holds(&name) => Some(*entry),
            Some(_) | None => None,
        }
    }

    /// Every readable entry.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Version, Entry)> {
        self.cache.all().into_iter().filter_map(|(_, r)| r.entry.clone().ok().map(|e| (r.version, e)))
    }

    /// The databases in which the cells of an instance were created.
    pub(crate) fn database_ids(&self, instance: &str) -> BTreeSet<DatabaseId> {
        self.entries()
            .filter_map(|(_, entry)| match entry {
                Entry::Cell(cell) if cell.instance == instance => Some(cell.database_id),
                Entry::Cell(_) | Entry::Tenant(_) | Entry::Agent(_) | Entry::Upstream(_) => None,
            })
            .collect()
    }

    /// Tenants with an entry that refers to an AgentConfig.
    pub(crate) fn users_of(&self, uid: &Uid) -> Vec<TenantEntry> {
        let name = agent_entry_name(uid);
        let records = self.cache.all();
        let using = records.iter().filter(|(_, r)| refers_to(Some(r)).contains(&name));
        using
            .filter_map(|(_, r)| match &r.entry {
                Ok(Entry::Tenant(entry)) => Some(entry.as_ref().clone()),
                Ok(_) | Err(_) => None,
            })
            .collect()
    }

    /// Credential entries that no AgentConfig's entry refers to, by hash.
    pub(crate) fn unused_upstreams(&self) -> BTreeMap<String, Version> {
        let records = self.cache.all();
        let used: BTreeSet<String> = records.iter().flat_map(|(_, r)| refers_to(Some(r))).collect();
        let upstreams = records.iter().filter_map(|(_, r)| match &r.entry {
            Ok(Entry::Upstream(e)) => Some((e.hash.clone(), r.version)),
            Ok(_) | Err(_) => None,
        });
        upstreams.filter(|(hash, _)| !used.contains(&upstream_entry_name(hash))).collect()
    }

    /// The version and time since which nothing refers to any of these entries, as far as this process has seen. Removals
    /// before its start have reached every replica.
    pub(crate) fn last_reference(&self, names: impl IntoIterator<Item = String>) -> LastReference {
        let memory = self.memory();
        names.into_iter().filter_map(|name| memory.dropped.get(&name).copied()).max().unwrap_or_default()
    }

    /// Creates an entry, or replaces the version that was read.
    ///
    /// # Errors
    /// `Transient` when it exists already or changed since, or when an entry that it refers to was deleted.
    pub(crate) async fn perform_put(&self, entry: &Entry, replace: Option<Version>) -> Result<Done, EffectError> {
        self.put(entry, None, replace).await
    }

    /// Replaces the cell's entry that was read, and the data next to it.
    ///
    /// # Errors
    /// `Transient` when it changed since.
    pub(crate) async fn perform_replace_cell(
        &self,
        entry: CellEntry,
        beside: &Beside,
        seen: Version,
    ) -> Result<Done, EffectError> {
        self.put(&Entry::Cell(entry), Some(beside), Some(seen)).await
    }

    async fn put(&self, entry: &Entry, beside: Option<&Beside>, replace: Option<Version>) -> Result<Done, EffectError> {
        let name = entry.name();
        let _shared = self.references.read().await;
        // An entry may keep what it refers to: that must not be in the way of revoking a key.
        let kept = refers_to(self.record(&name).as_deref());
        if let Some(missing) = references(entry).into_iter().find(|n| !kept.contains(n) && !self.holds(n)) {
            let what = format!("entry '{name}' would refer to '{missing}', which is not in the registry");
            return Err(EffectError::new(ErrorClass::Transient, what));
        }
        self.fence.check()?;
        self.memory().in_flight.insert(name.clone());
        let secret = render_secret(entry, beside, &self.namespace, replace);
        let written = self.write(&secret, &name, replace).await;
        let kept = written.map(|secret| {
            let version = version_of(&secret);
            let key = self.key(&name);
            if let Some(change) = self.cache.apply(key.clone(), Record::new(&secret)) {
                self.note_change(&key, &change);
            }
            Done::At(version)
        });
        self.memory().in_flight.remove(&name);
        kept
    }

    async fn write(&self, secret: &Secret, name: &str, replace: Option<Version>) -> Result<Secret, EffectError> {
        let params = PostParams::default();
        let request = async {
            match replace {
                None => self.api.create(&params, secret).await,
                Some(_) => self.api.replace(name, &params, secret).await,
            }
        };
        unless_changed(&format!("write registry entry '{name}'"), request).await
    }

    /// Deletes exactly the entry that was read, unless another entry refers to it. A deleted one counts as done.
    ///
    /// # Errors
    /// `Transient` when it changed since it was read; `Waiting` when an entry refers to it.
    pub(crate) async fn perform_delete(&self, name: &str, uid: &Uid, version: Version) -> Result<Done, EffectError> {
        let _exclusive = self.references.write().await;
        let user = self.cache.all().into_iter().find(|(_, r)| refers_to(Some(r)).contains(name));
        if let Some((key, _)) = user {
            let what = format!("registry entry '{name}' is still used by '{}'", key.name);
            return Err(EffectError::new(ErrorClass::Waiting, what));
        }
        self.fence.check()?;
        let what = format!("delete registry entry '{name}'");
        bounded(&what, self.api.delete(name, &preconditions(ObjectVersion { uid, version }))).await?;
        // It stays in the cache until the watch delivers the version of its deletion, which replicas will acknowledge.
        self.memory().deleting.insert(name.to_owned());
        Ok(Done::Plain)
    }

    /// Checks with the API server that this owner has no entry of this name.
    ///
    /// # Errors
    /// As any request; `Transient` if there is one.
    pub(crate) async fn check_gone(&self, name: &str, owner: &Uid) -> Result<(), EffectError> {
        let found = bounded(&format!("read registry entry '{name}'"), self.api.get(name)).await?;
        if found.is_some_and(|secret| Record::new(&secret).owner.as_ref() == Some(owner)) {
            let what = format!("registry entry '{name}' exists, although it seemed deleted");
            return Err(EffectError::new(ErrorClass::Transient, what));
        }
        Ok(())
    }

    /// Deletes the entry of a credential that no entry refers to.
    ///
    /// # Errors
    /// As [`Self::perform_delete`].
    pub(crate) async fn perform_delete_upstream(&self, hash: &str, version: Version) -> Result<Done, EffectError> {
        let name = upstream_entry_name(hash);
        match self.record(&name) {
            None => Ok(Done::Plain),
            Some(record) => self.perform_delete(&name, &record.uid, version).await,
        }
    }
}

/// The names of the entries that an entry refers to. Cells are left out: they are never deleted.
fn references(entry: &Entry) -> BTreeSet<String> {
    match entry {
        Entry::Tenant(tenant) => tenant.agents.values().map(|a| agent_entry_name(&a.config_uid)).collect(),
        Entry::Agent(agent) => upstream_of(agent).into_iter().collect(),
        Entry::Upstream(_) | Entry::Cell(_) => BTreeSet::new(),
    }
}

fn upstream_of(agent: &AgentEntry) -> Option<String> {
    agent.current.upstream.as_deref().map(upstream_entry_name)
}

fn refers_to(record: Option<&Record>) -> BTreeSet<String> {
    record.and_then(|r| r.entry.as_ref().ok()).map(references).unwrap_or_default()
}
