//! The rules by which entries become what is served (design §6, "Robust by rule"). Pure: no I/O, no clock.
//!
//! An invalid entry affects its own tenant only: that one is quarantined and keeps its last good entry less revoked keys.
//! An entry that others refer to is never removed.

mod shared;
mod tenants;

use super::{
    RawEntry, Snapshot,
    shared::{SharedEntries, UnusedReason},
    tenant::{Tenant, TenantCaps, VerifyKey},
    unique::{UniqueValue, UniqueValues},
};
use crate::domain::{
    ack::MAX_QUARANTINED,
    entry::{CellEntry, Entry, EntryKind, TenantEntry},
    ident::{Incarnation, Version},
    keys::Kid,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Prefix of tenants' entry names.
const TENANT_PREFIX: &str = "tenant-";

/// The registry's entries and what is served of them.
pub struct RegistryIndex {
    snapshot: Snapshot,
    records: HashMap<String, TenantRecord>,
    shared: SharedEntries,
    unique: UniqueValues,
    /// Tenants with an entry that needs a value of another tenant.
    conflicting: BTreeSet<String>,
    /// Quarantined entries by name.
    quarantined: BTreeMap<String, Quarantine>,
    /// Deletions that were not carried out, by name.
    ignored: BTreeMap<String, &'static str>,
    /// Cells with a login that is being tried, by name.
    trying: BTreeMap<String, Version>,
    logins: Vec<Login>,
    version: Version,
    caps: TenantCaps,
}

/// A tenant that is not served as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Identity of its data, as far as it can be read.
    pub incarnation: Option<Incarnation>,
    /// Why.
    pub reason: String,
}

/// A login to try.
pub struct Login {
    /// Name of the cell's entry.
    pub name: String,
    /// Version of the entry.
    pub version: Version,
    /// The login.
    pub entry: CellEntry,
}

struct TenantRecord {
    version: Version,
    latest: Result<Arc<TenantEntry>, String>,
    incarnation: Option<Incarnation>,
    revoked: BTreeSet<Kid>,
    loaded: Option<Loaded>,
    references: BTreeSet<String>,
}

struct Loaded {
    entry: Arc<TenantEntry>,
    tenant: Arc<Tenant>,
    unique: BTreeSet<UniqueValue>,
    keys: Vec<Arc<VerifyKey>>,
}

impl RegistryIndex {
    /// An empty index. `caps` hold for every tenant.
    pub fn new(caps: TenantCaps) -> Self {
        Self {
            snapshot: Snapshot::default(),
            records: HashMap::new(),
            shared: SharedEntries::default(),
            unique: UniqueValues::default(),
            conflicting: BTreeSet::new(),
            quarantined: BTreeMap::new(),
            ignored: BTreeMap::new(),
            trying: BTreeMap::new(),
            logins: Vec::new(),
            version: Version::default(),
            caps,
        }
    }

    /// What requests may see now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Up to which version everything is applied and may be acknowledged: a cell that is being tried holds it back.
    pub fn acknowledgeable(&self) -> Version {
        self.trying.values().map(|v| Version(v.0.saturating_sub(1))).min().map_or(self.version, |v| v.min(self.version))
    }

    /// Quarantined entries by name.
    pub fn quarantined(&self) -> &BTreeMap<String, Quarantine> {
        &self.quarantined
    }

    /// The quarantined tenants as an acknowledgement names them, and whether there are more than it may name.
    pub fn acknowledged_quarantine(&self) -> (BTreeMap<Incarnation, String>, bool) {
        let named = self.quarantined.values().filter_map(|q| Some((q.incarnation?, q.reason.clone())));
        let overflow = self.quarantined.len() > MAX_QUARANTINED;
        (named.take(MAX_QUARANTINED).collect(), overflow)
    }

    /// Deletions that were not carried out, by name, with the reason.
    pub fn ignored(&self) -> &BTreeMap<String, &'static str> {
        &self.ignored
    }

    /// The logins to try now; each is returned once.
    pub fn take_logins(&mut self) -> Vec<Login> {
        std::mem::take(&mut self.logins)
    }

    /// Whether the result of a login is still needed.
    pub fn needs_login(&self, name: &str, version: Version) -> bool {
        self.shared.get(name).is_some_and(|s| {
            s.version == version && matches!(s.unused, Some(UnusedReason::Trying(_) | UnusedReason::Refused(..)))
        })
    }

    /// Notes that everything up to `version` was applied.
    pub fn progress(&mut self, version: Version) {
        self.version = self.version.max(version);
    }

    /// Names of all entries that are known and not yet noted as deleted.
    pub fn names(&self) -> Vec<String> {
        let shared = self.shared.iter().filter(|(_, s)| !s.deleted && (s.good.is_some() || s.unused.is_some()));
        let all = self.records.keys().chain(shared.map(|(name, _)| name));
        all.filter(|name| !self.ignored.contains_key(*name)).cloned().collect()
    }

    /// Whether an entry was already applied at this version.
    pub fn has(&self, name: &str, version: Version) -> bool {
        let known = match self.records.get(name) {
            Some(record) => Some(record.version),
            None => self.shared.get(name).filter(|s| s.good.is_some() || s.unused.is_some()).map(|s| s.version),
        };
        known == Some(version) && !self.ignored.contains_key(name)
    }

    /// Applies one entry.
    pub fn apply(&mut self, raw: &RawEntry) {
        self.ignored.remove(&raw.name);
        let entry = Entry::parse(raw.kind, &raw.content).map_err(|e| e.to_string());
        let entry = entry.and_then(|e| {
            if e.name() == raw.name { Ok(e) } else { Err(format!("its content belongs to '{}'", e.name())) }
        });
        match raw.kind {
            EntryKind::Tenant => {
                let entry = entry.and_then(|e| match e {
                    Entry::Tenant(e) => Ok(Arc::from(e)),
                    Entry::Agent(_) | Entry::Upstream(_) | Entry::Cell(_) => Err("it is no tenant".to_owned()),
                });
                self.apply_tenant(raw, entry);
            }
            EntryKind::Agent | EntryKind::Upstream | EntryKind::Cell => self.apply_shared(raw, entry),
        }
        self.progress(raw.version);
        self.resolve_conflicts();
    }

    /// Carries out a deletion, or ignores it and reports that.
    pub fn delete(&mut self, name: &str, version: Version) {
        if name.starts_with(TENANT_PREFIX) {
            self.delete_tenant(name);
        } else {
            self.delete_shared(name);
        }
        self.progress(version);
        self.resolve_conflicts();
    }

    /// Applies the result of a login. Results for an outdated entry version are ignored.
    pub fn login(&mut self, name: &str, version: Version, outcome: Result<(), String>) {
        if !self.needs_login(name, version) {
            return;
        }
        let before = self.shared.readiness(name);
        let shared = self.shared.entry(name);
        match (shared.unused.take(), outcome) {
            (Some(UnusedReason::Trying(entry) | UnusedReason::Refused(entry, _)), Ok(())) => self.install(name, *entry),
            (Some(UnusedReason::Trying(entry) | UnusedReason::Refused(entry, _)), Err(reason)) => {
                shared.unused = Some(UnusedReason::Refused(entry, reason));
            }
            (other @ (Some(UnusedReason::Unreadable(_)) | None), _) => shared.unused = other,
        }
        self.trying.remove(name);
        if self.shared.readiness(name) != before {
            self.propagate(name);
        }
        self.resolve_conflicts();
    }
}
