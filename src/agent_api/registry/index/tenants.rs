//! How a tenant's entry is judged, loaded, quarantined and taken out.

use super::{Loaded, Quarantine, RegistryIndex, TenantRecord};
use crate::{
    agent_api::registry::{
        RawEntry,
        shared::EntryReadiness,
        tenant::{Service, Tenant, prepare_keys},
        unique::{UniqueValue, resolve_unique_values},
    },
    domain::{
        entry::{TenantEntry, TenantState, agent_entry_name, cell_entry_name},
        ident::Incarnation,
        keys::Kid,
        migrations::TENANT_VERSION,
    },
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What is read of a tenant's entry even if the rest of it can't be.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialEntry {
    #[serde(default)]
    revoked_kids: BTreeMap<Kid, serde::de::IgnoredAny>,
    #[serde(default)]
    incarnation: Option<Incarnation>,
}

impl RegistryIndex {
    pub(super) fn apply_tenant(&mut self, raw: &RawEntry, entry: Result<Arc<TenantEntry>, String>) {
        let partial: PartialEntry = serde_json::from_slice(&raw.content).unwrap_or_default();
        let record = self.records.entry(raw.name.clone()).or_insert_with(|| TenantRecord {
            version: raw.version,
            latest: Err("it was not read yet".to_owned()),
            incarnation: None,
            revoked: BTreeSet::new(),
            loaded: None,
            references: BTreeSet::new(),
        });
        // First and independently of the rest: a revoked key verifies nothing.
        record.revoked.extend(partial.revoked_kids.into_keys());
        if let Some(loaded) = &mut record.loaded {
            loaded.keys.retain(|k| !record.revoked.contains(&k.kid));
            for kid in &record.revoked {
                if self.snapshot.keys.get(kid).is_some_and(|k| k.tenant == loaded.tenant.id) {
                    self.snapshot.keys.remove(kid);
                }
            }
        }
        record.version = raw.version;
        record.incarnation = partial.incarnation.or(record.incarnation);
        record.latest = entry;
        self.evaluate(&raw.name);
    }

    /// Decides again what of a tenant is served.
    pub(super) fn evaluate(&mut self, name: &str) {
        let Some(record) = self.records.get(name) else { return };
        self.conflicting.remove(name);
        let quarantine = match record.latest.clone() {
            Err(reason) => Some(reason),
            Ok(entry) => self.evaluate_entry(name, &entry),
        };
        match quarantine {
            None => {
                self.quarantined.remove(name);
            }
            Some(reason) => {
                let incarnation = self.records.get(name).and_then(|r| r.incarnation);
                self.quarantined.insert(name.to_owned(), Quarantine { incarnation, reason });
            }
        }
        self.update_references(name);
    }

    /// Loads an entry as far as possible; returns why the tenant is quarantined, if it is.
    fn evaluate_entry(&mut self, name: &str, entry: &Arc<TenantEntry>) -> Option<String> {
        if entry.state == TenantState::Deleting {
            return self.evaluate_deletion(name, entry);
        }
        if !entry.agents.contains_key(&entry.default_agent) {
            return Some("its default agent is not among its agents".to_owned());
        }
        let version = entry.database.location.schema_version;
        if version > TENANT_VERSION {
            return Some(format!(
                "its tables have version {version}, this replica knows versions up to {TENANT_VERSION}"
            ));
        }
        let unique = match resolve_unique_values(entry) {
            Ok(unique) => unique,
            Err(reason) => return Some(reason),
        };
        if let Err(reason) = self.unique.check(&entry.tenant_id, &unique) {
            self.conflicting.insert(name.to_owned());
            return Some(reason);
        }
        let readiness = match entry.state {
            TenantState::Active => references(entry).iter().map(|n| self.shared.readiness(n)).max_by_key(severity),
            // Nothing of it is used, so nothing is checked. `Deleting` was handled above.
            TenantState::Suspended | TenantState::Deleting => None,
        };
        let (service, quarantine) = match readiness.unwrap_or(EntryReadiness::Ready) {
            EntryReadiness::Ready => (Service::Served, None),
            EntryReadiness::LoginPending => {
                (Service::Unserved("the login to its cell is being tried".to_owned()), None)
            }
            EntryReadiness::Unusable(reason) => (Service::Unserved(reason.clone()), Some(reason)),
        };
        let loaded = self.records.get(name).and_then(|r| r.loaded.as_ref());
        let last_good =
            loaded.is_some_and(|l| l.tenant.service == Service::Served && l.entry.incarnation == entry.incarnation);
        if service != Service::Served && last_good {
            return quarantine;
        }
        self.load(name, entry, service, unique).err().or(quarantine)
    }

    /// Takes a tenant out of service. The entry may be incomplete, and nothing of it is used: agents aren't required, and a
    /// value that another tenant owns stays with that one.
    fn evaluate_deletion(&mut self, name: &str, entry: &Arc<TenantEntry>) -> Option<String> {
        let unique = resolve_unique_values(entry)
            .and_then(|unique| self.unique.check(&entry.tenant_id, &unique).map(|()| unique));
        let loaded = match unique {
            Ok(unique) => self.load(name, entry, Service::Served, unique),
            Err(_) => {
                let without_keys = TenantEntry { keys: Vec::new(), ..entry.as_ref().clone() };
                self.load(name, &Arc::new(without_keys), Service::Served, BTreeSet::new())
            }
        };
        loaded.err()
    }

    fn load(
        &mut self,
        name: &str,
        entry: &Arc<TenantEntry>,
        service: Service,
        unique: BTreeSet<UniqueValue>,
    ) -> Result<(), String> {
        let Some(record) = self.records.get_mut(name) else { return Ok(()) };
        let before = record.loaded.as_ref().map(|l| l.tenant.as_ref());
        let tenant = Tenant::new(entry, service, self.caps, before).map_err(|e| e.to_string())?;
        let tenant = Arc::new(tenant);
        let keys = prepare_keys(entry, &record.revoked);
        let before = record.loaded.take();
        let nothing = BTreeSet::new();
        self.unique.replace(&tenant.id, before.as_ref().map_or(&nothing, |l| &l.unique), &unique);
        for old in before.iter().flat_map(|l| &l.keys) {
            if !keys.iter().any(|k| k.kid == old.kid) {
                self.snapshot.keys.remove(&old.kid);
            }
        }
        for key in &keys {
            self.snapshot.keys.insert(key.kid.clone(), Arc::clone(key));
        }
        self.snapshot.tenants.insert(tenant.id.clone(), Arc::clone(&tenant));
        record.loaded = Some(Loaded { entry: Arc::clone(entry), tenant, unique, keys });
        Ok(())
    }

    /// Brings the users of shared entries up to date with what a tenant's last and loaded entries refer to.
    fn update_references(&mut self, name: &str) {
        let Some(record) = self.records.get_mut(name) else { return };
        let mut wanted = BTreeSet::new();
        for entry in record.latest.iter().chain(record.loaded.iter().map(|l| &l.entry)) {
            wanted.append(&mut references(entry));
        }
        let old = std::mem::replace(&mut record.references, wanted.clone());
        for gone in old.difference(&wanted) {
            self.release(gone, name);
        }
        for new in wanted.difference(&old) {
            self.shared.refer(new, name);
        }
    }

    pub(super) fn release(&mut self, name: &str, user: &str) {
        if self.shared.release(name, user) {
            self.forget_shared(name);
        }
    }

    pub(super) fn delete_tenant(&mut self, name: &str) {
        let Some(record) = self.records.get(name) else { return };
        let last = record.latest.as_ref().ok().or(record.loaded.as_ref().map(|l| &l.entry)).map(|e| e.state);
        match last {
            Some(TenantState::Active | TenantState::Suspended) => {
                self.ignored.insert(name.to_owned(), "its last state was not 'deleting'");
                return;
            }
            Some(TenantState::Deleting) | None => {}
        }
        let Some(record) = self.records.remove(name) else { return };
        if let Some(loaded) = record.loaded {
            self.snapshot.tenants.remove(&loaded.tenant.id);
            for key in &loaded.keys {
                self.snapshot.keys.remove(&key.kid);
            }
            self.unique.replace(&loaded.tenant.id, &loaded.unique, &BTreeSet::new());
        }
        for reference in &record.references {
            self.release(reference, name);
        }
        self.quarantined.remove(name);
        self.conflicting.remove(name);
        self.ignored.remove(name);
    }

    /// Evaluates the tenants again that needed a value of another one.
    pub(super) fn resolve_conflicts(&mut self) {
        for name in self.conflicting.clone() {
            self.evaluate(&name);
        }
    }
}

/// Names of the entries that a tenant's entry refers to. One that is being deleted needs nothing any more.
fn references(entry: &TenantEntry) -> BTreeSet<String> {
    match entry.state {
        TenantState::Deleting => BTreeSet::new(),
        TenantState::Active | TenantState::Suspended => {
            let agents = entry.agents.values().map(|a| agent_entry_name(&a.config_uid));
            agents.chain([cell_entry_name(&entry.database.location.instance, entry.database.location.cell)]).collect()
        }
    }
}

fn severity(readiness: &EntryReadiness) -> u8 {
    match readiness {
        EntryReadiness::Ready => 0,
        EntryReadiness::LoginPending => 1,
        EntryReadiness::Unusable(_) => 2,
    }
}
