//! The rules by which entries become what is served (design §6, "Robust by rule"). Pure: no I/O, no clock.
//!
//! One tenant's trouble stays its own: it is quarantined, keeps its last good entry less revoked keys, and everybody
//! else is served. What others refer to never disappears under them.

mod shared;
mod tenants;

use super::{
    Document, Snapshot,
    claims::{Claim, Claims},
    shared::{SharedEntries, Trouble},
    tenant::{Tenant, VerifyKey},
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
    time::Duration,
};

/// Prefix of tenants' entry names.
const TENANT_PREFIX: &str = "tenant-";

/// Everything known about the registry.
pub struct Book {
    snapshot: Snapshot,
    records: HashMap<String, Record>,
    shared: SharedEntries,
    claims: Claims,
    /// Tenants that want what another one has.
    contested: BTreeSet<String>,
    /// Quarantined entries by name.
    quarantined: BTreeMap<String, Quarantine>,
    /// Deletions that were not carried out, by name.
    ignored: BTreeMap<String, &'static str>,
    /// Cells whose login is being tried, by name.
    trying: BTreeMap<String, Version>,
    logins: Vec<Login>,
    version: Version,
    idle_in_transaction: Duration,
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

struct Record {
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
    claims: BTreeSet<Claim>,
    keys: Vec<Arc<VerifyKey>>,
}

impl Book {
    /// An empty book. `idle_in_transaction` goes into every tenant's transactions.
    pub fn new(idle_in_transaction: Duration) -> Self {
        Self {
            snapshot: Snapshot::default(),
            records: HashMap::new(),
            shared: SharedEntries::default(),
            claims: Claims::default(),
            contested: BTreeSet::new(),
            quarantined: BTreeMap::new(),
            ignored: BTreeMap::new(),
            trying: BTreeMap::new(),
            logins: Vec::new(),
            version: Version::default(),
            idle_in_transaction,
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

    /// Whether a login still matters.
    pub fn wants_login(&self, name: &str, version: Version) -> bool {
        self.shared.get(name).is_some_and(|s| {
            s.version == version && matches!(s.trouble, Some(Trouble::Trying(_) | Trouble::Refused(..)))
        })
    }

    /// Notes that everything up to `version` was applied.
    pub fn progress(&mut self, version: Version) {
        self.version = self.version.max(version);
    }

    /// Names of all entries that are known and not yet noted as deleted.
    pub fn names(&self) -> Vec<String> {
        let shared = self.shared.iter().filter(|(_, s)| !s.deleted && (s.good.is_some() || s.trouble.is_some()));
        let all = self.records.keys().chain(shared.map(|(name, _)| name));
        all.filter(|name| !self.ignored.contains_key(*name)).cloned().collect()
    }

    /// Whether an entry was already applied at this version.
    pub fn has(&self, name: &str, version: Version) -> bool {
        let known = match self.records.get(name) {
            Some(record) => Some(record.version),
            None => self.shared.get(name).filter(|s| s.good.is_some() || s.trouble.is_some()).map(|s| s.version),
        };
        known == Some(version) && !self.ignored.contains_key(name)
    }

    /// Applies one entry.
    pub fn apply(&mut self, document: &Document) {
        self.ignored.remove(&document.name);
        let entry = Entry::parse(document.kind, &document.content).map_err(|e| e.to_string());
        let entry = entry.and_then(|e| {
            if e.name() == document.name { Ok(e) } else { Err(format!("its content belongs to '{}'", e.name())) }
        });
        match document.kind {
            EntryKind::Tenant => {
                let entry = entry.and_then(|e| match e {
                    Entry::Tenant(e) => Ok(Arc::from(e)),
                    Entry::Agent(_) | Entry::Upstream(_) | Entry::Cell(_) => Err("it is no tenant".to_owned()),
                });
                self.apply_tenant(document, entry);
            }
            EntryKind::Agent | EntryKind::Upstream | EntryKind::Cell => self.apply_shared(document, entry),
        }
        self.progress(document.version);
        self.settle_contested();
    }

    /// Carries out a deletion, or ignores it and reports that.
    pub fn delete(&mut self, name: &str, version: Version) {
        if name.starts_with(TENANT_PREFIX) {
            self.delete_tenant(name);
        } else {
            self.delete_shared(name);
        }
        self.progress(version);
        self.settle_contested();
    }

    /// Takes note of how a login went. Of an old one nobody wants to know.
    pub fn login(&mut self, name: &str, version: Version, outcome: Result<(), String>) {
        if !self.wants_login(name, version) {
            return;
        }
        let before = self.shared.standing(name);
        let shared = self.shared.entry(name);
        match (shared.trouble.take(), outcome) {
            (Some(Trouble::Trying(entry) | Trouble::Refused(entry, _)), Ok(())) => self.install(name, *entry),
            (Some(Trouble::Trying(entry) | Trouble::Refused(entry, _)), Err(reason)) => {
                shared.trouble = Some(Trouble::Refused(entry, reason));
            }
            (other @ (Some(Trouble::Unreadable(_)) | None), _) => shared.trouble = other,
        }
        self.trying.remove(name);
        if self.shared.standing(name) != before {
            self.ripple(name);
        }
        self.settle_contested();
    }
}
