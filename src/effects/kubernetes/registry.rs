//! The tenant registry: the operator is its only writer. What is referenced is written before what refers to it, and
//! deleted only when nothing refers to it; a lock keeps the two apart.

use super::{
    cache::{Cache, Change, Key},
    entries::{Beside, Record, render_secret},
    error::{bounded, unless_taken},
    fence::LeaseFence,
    keys::preconditions,
    watch::version_of,
};
use crate::{
    domain::{
        class::ErrorClass,
        entry::{AgentEntry, CellEntry, Entry, TenantEntry, agent_entry_name, upstream_entry_name},
        ident::{DatabaseId, TenantId, Uid, Version},
    },
    effects::error::EffectError,
    plan::{
        observed::{AgentEntryView, EntryView, LastReference, Seen},
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
    /// What is in it.
    pub cache: Cache<Record>,
    /// Shared by whoever writes a reference, exclusive for whoever deletes what may be referred to.
    references: Arc<RwLock<()>>,
    memory: Arc<Mutex<Memory>>,
    changes: mpsc::UnboundedSender<RegistryChange>,
}

/// One change of the registry.
#[derive(Clone, Debug)]
pub struct RegistryChange {
    /// What was there, if it was readable.
    pub before: Option<Entry>,
    /// What is there, if it is readable.
    pub after: Option<Entry>,
    /// We wrote it.
    pub own: bool,
}

#[derive(Default)]
struct Memory {
    /// When the last reference to a named entry went away.
    dropped: BTreeMap<String, LastReference>,
    /// Entries that are being written by us: their changes are no news.
    in_flight: BTreeSet<String>,
    /// Entries that we have deleted and the watch still has to take out.
    going: BTreeSet<String>,
}

impl Registry {
    /// The registry in this namespace.
    pub fn new(
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
    pub fn api(&self) -> Api<Secret> {
        self.api.clone()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The time, by the clock that leadership is measured with.
    pub fn now(&self) -> jiff::Timestamp {
        self.fence.now()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, name: &str) -> Key {
        Key::new(&self.namespace, name)
    }

    /// One Secret of the registry, readable or not.
    pub fn record(&self, name: &str) -> Option<Arc<Record>> {
        self.cache.get(&self.key(name))
    }

    /// Notes a change of the cache and tells it on.
    pub fn note_change(&self, key: &Key, change: &Change<Record>) {
        let mut memory = self.memory();
        let (before, after) = (refers_to(change.before.as_deref()), refers_to(change.after.as_deref()));
        for name in before.difference(&after) {
            let last = LastReference { version: change.version, since: self.fence.now() };
            memory.dropped.insert(name.clone(), last);
        }
        memory.going.remove(&key.name);
        let readable = |record: &Option<Arc<Record>>| record.as_ref().and_then(|r| r.entry.clone().ok());
        let own = memory.in_flight.contains(&key.name);
        drop(memory);
        // Nobody listens any more when the process is ending.
        let _ =
            self.changes.send(RegistryChange { before: readable(&change.before), after: readable(&change.after), own });
    }

    /// The entry of a tenant, judged for the Tenant `uid`.
    pub fn observe_tenant(&self, tenant: &TenantId, uid: &Uid) -> Seen<EntryView> {
        let name = tenant.entry_name();
        let Some(record) = self.record(&name) else { return Seen::Missing };
        let entry = match &record.entry {
            Ok(Entry::Tenant(entry)) => Some(entry.as_ref().clone()),
            Ok(_) | Err(_) => None,
        };
        let owner = entry.as_ref().map(|e| &e.uid).or(record.owner.as_ref());
        if owner != Some(uid) {
            return Seen::Foreign(match entry {
                Some(e) => {
                    format!("the registry gives this tenant id to Tenant {}/{} (UID {})", e.namespace, e.name, e.uid)
                }
                None => format!("registry Secret '{name}' is not marked as this Tenant's"),
            });
        }
        Seen::Ours(EntryView { secret_uid: record.uid.clone(), version: record.version, entry })
    }

    /// The entry of an AgentConfig.
    pub fn observe_agent(&self, uid: &Uid) -> Seen<AgentEntryView> {
        let Some(record) = self.record(&agent_entry_name(uid)) else { return Seen::Missing };
        let entry = match &record.entry {
            Ok(Entry::Agent(entry)) if entry.uid == *uid => Some(entry.as_ref().clone()),
            Ok(_) | Err(_) => None,
        };
        Seen::Ours(AgentEntryView { secret_uid: record.uid.clone(), version: record.version, entry })
    }

    /// Whether an entry of this name is there and readable.
    pub fn holds(&self, name: &str) -> bool {
        self.record(name).is_some_and(|r| r.entry.is_ok()) && !self.memory().going.contains(name)
    }

    /// One readable entry.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        self.record(name).and_then(|r| r.entry.clone().ok())
    }

    /// The entry of a tenant, if it is readable and not just being deleted.
    pub fn tenant_entry(&self, tenant: &TenantId) -> Option<TenantEntry> {
        let name = tenant.entry_name();
        match self.entry(&name) {
            Some(Entry::Tenant(entry)) if self.holds(&name) => Some(*entry),
            Some(_) | None => None,
        }
    }

    /// Every readable entry.
    pub fn entries(&self) -> impl Iterator<Item = (Version, Entry)> {
        self.cache.all().into_iter().filter_map(|(_, r)| r.entry.clone().ok().map(|e| (r.version, e)))
    }

    /// The databases that cell entries of an instance were made in.
    pub fn database_ids(&self, instance: &str) -> BTreeSet<DatabaseId> {
        self.entries()
            .filter_map(|(_, entry)| match entry {
                Entry::Cell(cell) if cell.instance == instance => Some(cell.database_id),
                Entry::Cell(_) | Entry::Tenant(_) | Entry::Agent(_) | Entry::Upstream(_) => None,
            })
            .collect()
    }

    /// Tenants whose entry refers to an AgentConfig.
    pub fn users_of(&self, uid: &Uid) -> Vec<TenantEntry> {
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
    pub fn unused_upstreams(&self) -> BTreeMap<String, Version> {
        let records = self.cache.all();
        let used: BTreeSet<String> = records.iter().flat_map(|(_, r)| refers_to(Some(r))).collect();
        let upstreams = records.iter().filter_map(|(_, r)| match &r.entry {
            Ok(Entry::Upstream(e)) => Some((e.hash.clone(), r.version)),
            Ok(_) | Err(_) => None,
        });
        upstreams.filter(|(hash, _)| !used.contains(&upstream_entry_name(hash))).collect()
    }

    /// The version and time from which on nothing refers to any of these entries, as far as this process has seen; what was
    /// dropped before it started, every replica has long been told.
    pub fn last_reference(&self, names: impl IntoIterator<Item = String>) -> LastReference {
        let memory = self.memory();
        names.into_iter().filter_map(|name| memory.dropped.get(&name).copied()).max().unwrap_or_default()
    }

    /// Writes an entry: creates it, or replaces the version that was seen.
    ///
    /// # Errors
    /// `Transient` when it is there already or changed since, or when something it refers to went away meanwhile.
    pub async fn perform_put(&self, entry: &Entry, replace: Option<Version>) -> Result<Done, EffectError> {
        self.put(entry, None, replace).await
    }

    /// Replaces the cell's entry that was seen, and what stands beside it.
    ///
    /// # Errors
    /// `Transient` when it changed since.
    pub async fn perform_replace_cell(
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
        if let Some(missing) = references(entry).into_iter().find(|n| !self.holds(n)) {
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
        let written = unless_taken(&format!("write registry entry '{name}'"), request).await?;
        written.ok_or_else(|| {
            EffectError::new(ErrorClass::Transient, format!("registry entry '{name}' changed meanwhile"))
        })
    }

    /// Deletes exactly the entry that was seen, unless something refers to it by now. One that is gone counts as done.
    ///
    /// # Errors
    /// `Transient` when it changed since it was seen; `Waiting` when it is referred to.
    pub async fn perform_delete(&self, name: &str, uid: &Uid, version: Version) -> Result<Done, EffectError> {
        let _alone = self.references.write().await;
        let user = self.cache.all().into_iter().find(|(_, r)| refers_to(Some(r)).contains(name));
        if let Some((key, _)) = user {
            let what = format!("registry entry '{name}' is still used by '{}'", key.name);
            return Err(EffectError::new(ErrorClass::Waiting, what));
        }
        self.fence.check()?;
        let what = format!("delete registry entry '{name}'");
        bounded(&what, self.api.delete(name, &preconditions(uid, version))).await?;
        // It stays in the cache until the watch tells the version of its deletion, which replicas will acknowledge.
        self.memory().going.insert(name.to_owned());
        Ok(Done::Plain)
    }

    /// Looks, not in the cache, that no entry of this name is marked as this owner's.
    ///
    /// # Errors
    /// As any request; `Transient` if there is one.
    pub async fn check_gone(&self, name: &str, owner: &Uid) -> Result<(), EffectError> {
        let found = bounded(&format!("look for registry entry '{name}'"), self.api.get(name)).await?;
        if found.is_some_and(|secret| Record::new(&secret).owner.as_ref() == Some(owner)) {
            let what = format!("registry entry '{name}' is there, though it looked deleted");
            return Err(EffectError::new(ErrorClass::Transient, what));
        }
        Ok(())
    }

    /// Deletes the entry of a credential that nothing refers to.
    ///
    /// # Errors
    /// As [`Self::perform_delete`].
    pub async fn perform_delete_upstream(&self, hash: &str, version: Version) -> Result<Done, EffectError> {
        let name = upstream_entry_name(hash);
        match self.record(&name) {
            None => Ok(Done::Plain),
            Some(record) => self.perform_delete(&name, &record.uid, version).await,
        }
    }
}

/// The entries that an entry refers to, by name. A cell is left out: it is never deleted.
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
