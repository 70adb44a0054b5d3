//! The model's world: what the API server, the registry, the database and the replicas hold.

use super::drift::ManualEdit;
use agent_tenancy::{
    api::{AgentConfig, Notice, Tenant},
    domain::{
        ack::{Acknowledgement, Replica},
        class::ErrorClass,
        custom_migrations::CustomMigrations,
        entry::{Entry, TenantEntry},
        ident::{DatabaseId, Incarnation, ObjectId, ProcessId, TenantId, Uid, Version},
        keys::{KeyBytes, Kid},
        migrations::{TENANT_VERSION, Track},
    },
    effects::error::EffectError,
    plan::{
        observed::{
            Archive, LastReference, LedgerRow, Replicas,
            applied::{Applied, MigrationFailure},
        },
        step::{Adoption, Provision},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Namespace and name.
pub type Key = (String, String);

/// Tenants per cell: few, so that cells are made often.
pub const CELL_SIZE: usize = 2;
/// Seconds a deletion waits.
pub const ACK_TIMEOUT: i64 = 60;
/// Seconds an archive is kept.
pub const ARCHIVE_SECONDS: i64 = 86_400;
/// Every secret of the model starts with this.
pub const CANARY: &str = "CANARY";
pub const PREFIX: &str = "at";
pub const INSTANCE: &str = "main";
/// This cluster.
pub const CLUSTER: &str = "cluster";
/// A cluster that this one was built in place of.
pub const FORMER: &str = "former";
/// Another cluster with data in the same database; the settings don't name it.
pub const STRANGER: &str = "stranger";

#[derive(Clone, Debug)]
pub struct KeySecret {
    pub uid: Uid,
    pub version: Version,
    pub owner: Option<Uid>,
    pub data: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct EntrySecret {
    pub uid: Uid,
    pub version: Version,
    pub owner: Option<Uid>,
    /// `None`: damaged by hand.
    pub entry: Option<Entry>,
}

/// A registry Secret to be written, at the version that it then gets.
pub struct NewSecret {
    pub uid: Uid,
    pub owner: Option<Uid>,
    /// `None`: damaged by hand.
    pub entry: Option<Entry>,
}

#[derive(Clone, Debug)]
pub struct FakeReplica {
    pub name: String,
    pub running: bool,
    pub ready: bool,
    /// Does not acknowledge any more.
    pub stuck: bool,
    pub applied: Option<Version>,
    pub quarantined: BTreeMap<Incarnation, String>,
}

#[derive(Clone, Debug)]
pub struct Database {
    pub id: DatabaseId,
    pub up: bool,
    pub control: bool,
    pub epoch: i32,
    pub rows: BTreeMap<TenantId, LedgerRow>,
    pub archives: BTreeMap<Incarnation, Archived>,
    pub cells: BTreeMap<i32, KeyBytes>,
    /// Name and mark.
    pub roles: BTreeMap<String, String>,
    pub schemas: BTreeMap<String, String>,
    pub members: BTreeSet<String>,
    pub grants: BTreeSet<String>,
    /// What people changed, by role.
    pub edited: BTreeMap<String, BTreeSet<ManualEdit>>,
    /// Open transactions by schema.
    pub open: BTreeMap<String, i64>,
    /// Takeover grants: the owner of the data, and the Tenant that may take it over.
    pub permissions: BTreeSet<(Incarnation, Uid)>,
    /// Migrations that failed.
    pub failures: BTreeMap<Incarnation, MigrationFailure>,
    /// Schemas with data that no file of this version fits, of either track.
    pub unfit: BTreeSet<(String, Track, i32)>,
}

/// An archive, without its marks.
#[derive(Clone, Debug)]
pub struct Archived {
    pub tenant_id: TenantId,
    pub archive: Archive,
    pub own: Applied,
    pub drop_after: Timestamp,
}

impl Database {
    pub fn new(id: u128, control: bool) -> Self {
        Self {
            id: DatabaseId(Uuid::from_u128(id)),
            up: true,
            control,
            epoch: 0,
            rows: BTreeMap::new(),
            archives: BTreeMap::new(),
            cells: BTreeMap::new(),
            roles: BTreeMap::new(),
            schemas: BTreeMap::new(),
            members: BTreeSet::new(),
            grants: BTreeSet::new(),
            edited: BTreeMap::new(),
            open: BTreeMap::new(),
            permissions: BTreeSet::new(),
            failures: BTreeMap::new(),
            unfit: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct State {
    pub now: Timestamp,
    pub version: u64,
    pub ids: u128,
    /// Epoch of the Lease's holder.
    pub leader: i32,
    pub tenants: BTreeMap<Key, Tenant>,
    pub agents: BTreeMap<Key, AgentConfig>,
    pub secrets: BTreeMap<Key, KeySecret>,
    /// Provider keys by namespace and Secret name.
    pub credentials: BTreeMap<Key, KeyBytes>,
    /// Hash of each revision by AgentConfig and number.
    pub revisions: BTreeMap<(Uid, i64), String>,
    pub registry: BTreeMap<String, EntrySecret>,
    /// The leader's memory: when the last reference to an entry went away.
    pub dropped: BTreeMap<String, LastReference>,
    pub replicas: Vec<FakeReplica>,
    /// Version that the settings give tenants.
    pub schema_version: i32,
    /// The custom migrations.
    pub own: Option<CustomMigrations>,
    /// Whether the rollout continues: every tenant has a slot.
    pub rolling: bool,
    pub database: Database,
    /// The real database while another one stands in its place.
    pub real: Option<Database>,
    pub events: Vec<(Uid, Notice)>,
    /// Effects that changed something.
    pub writes: u64,
    pub status_writes: BTreeMap<Uid, usize>,
    pub violations: Vec<String>,
    /// The key that signs for each Tenant, until every place of it was destroyed by hand.
    pub kids: BTreeMap<Uid, Kid>,
    /// Copies that people made of signing Secrets.
    pub backups: BTreeMap<Key, BTreeMap<String, Vec<u8>>>,
    /// Tenants that ever asked for their data to be dropped.
    pub droppable: BTreeSet<Uid>,
    /// Tenants that ever asked for their data to be archived.
    pub archivable: BTreeSet<Uid>,
    /// A view was stale in this run: what only a fresh view can promise is not asked.
    pub stale: bool,
    /// Tenants that lost their finalizer by hand: they may vanish before it is back.
    pub stripped: BTreeSet<Uid>,
    /// Every request for a new tenant in the database that was ever sent: it may arrive late.
    pub sent: Vec<(Provision, ObjectId)>,
    /// The same for data that was to be taken over.
    pub sent_adoptions: Vec<(Adoption, ObjectId)>,
    /// Whether what is written is searched for secrets (in the runs where nothing goes wrong; it takes time).
    pub grep: bool,
}

pub fn transient(what: impl Into<String>) -> EffectError {
    EffectError::new(ErrorClass::Transient, what)
}

impl State {
    pub fn new() -> Self {
        Self {
            now: "2030-01-01T00:00:00Z".parse().unwrap(),
            version: 100,
            ids: 0,
            leader: 1,
            tenants: BTreeMap::new(),
            agents: BTreeMap::new(),
            secrets: BTreeMap::new(),
            credentials: BTreeMap::new(),
            revisions: BTreeMap::new(),
            registry: BTreeMap::new(),
            dropped: BTreeMap::new(),
            replicas: Vec::new(),
            schema_version: TENANT_VERSION,
            own: None,
            rolling: true,
            database: Database::new(0xda7a, true),
            real: None,
            events: Vec::new(),
            writes: 0,
            status_writes: BTreeMap::new(),
            violations: Vec::new(),
            kids: BTreeMap::new(),
            backups: BTreeMap::new(),
            droppable: BTreeSet::new(),
            archivable: BTreeSet::new(),
            stale: false,
            stripped: BTreeSet::new(),
            sent: Vec::new(),
            sent_adoptions: Vec::new(),
            grep: true,
        }
    }

    pub fn bump(&mut self) -> Version {
        self.version += 1;
        Version(self.version)
    }

    pub fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    pub fn uid(&mut self, kind: &str) -> Uid {
        let id = self.id();
        Uid(format!("{kind}-{id}"))
    }

    /// One effect changed something.
    pub fn wrote(&mut self) {
        self.writes += 1;
    }

    pub fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub fn advance(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub fn tenant_entry(&self, id: &TenantId) -> Option<&TenantEntry> {
        match &self.registry.get(&id.entry_name())?.entry {
            Some(Entry::Tenant(entry)) => Some(entry),
            _ => None,
        }
    }

    /// Names of the entries that an entry refers to.
    pub fn references(entry: Option<&Entry>) -> BTreeSet<String> {
        match entry {
            Some(Entry::Tenant(e)) => e.agents.values().map(|a| format!("agent-{}", a.config_uid)).collect(),
            Some(Entry::Agent(e)) => e.current.upstream.iter().map(|h| format!("upstream-{h}")).collect(),
            Some(Entry::Upstream(_) | Entry::Cell(_)) | None => BTreeSet::new(),
        }
    }

    pub fn is_referenced(&self, name: &str) -> bool {
        self.registry.values().any(|s| Self::references(s.entry.as_ref()).contains(name))
    }

    /// Puts or removes a registry Secret and remembers which references were removed.
    pub fn set_registry(&mut self, name: &str, secret: Option<NewSecret>) -> Version {
        let version = self.bump();
        let before = Self::references(self.registry.get(name).and_then(|s| s.entry.as_ref()));
        match secret {
            Some(NewSecret { uid, owner, entry }) => {
                self.registry.insert(name.to_owned(), EntrySecret { uid, version, owner, entry });
            }
            None => {
                self.registry.remove(name);
            }
        }
        let after = Self::references(self.registry.get(name).and_then(|s| s.entry.as_ref()));
        for gone in before.difference(&after) {
            self.dropped.insert(gone.clone(), LastReference { version, since: self.now });
        }
        version
    }

    pub fn replicas(&self) -> Replicas {
        let all = self.replicas.iter().enumerate().map(|(i, r)| Replica {
            name: r.name.clone(),
            ready: r.ready,
            running: r.running,
            acknowledged: r.applied.map(|version| Acknowledgement {
                process: ProcessId(Uuid::from_u128(i as u128)),
                pod: None,
                version,
                format: 1,
                schema_version: Some(TENANT_VERSION),
                connection_budget: None,
                quarantined: r.quarantined.clone(),
                quarantine_overflow: false,
            }),
        });
        Replicas { all: all.collect(), none_wanted: false }
    }

    /// Every replica that is not stuck applies what there is. Whether one moved on.
    pub fn acknowledge(&mut self) -> bool {
        let head = Version(self.version);
        let mut moved = false;
        for replica in self.replicas.iter_mut().filter(|r| r.running && !r.stuck && r.applied != Some(head)) {
            replica.applied = Some(head);
            moved = true;
        }
        moved
    }

    /// Running replicas that may still act on what was there before `version`.
    pub fn unacknowledged(&self, version: Version) -> bool {
        self.replicas.iter().any(|r| r.running && r.applied.is_none_or(|a| a < version))
    }

    pub fn live_tenant(&self, uid: &Uid) -> Option<&Tenant> {
        self.tenants.values().find(|t| t.metadata.uid.as_deref() == Some(uid.0.as_str()))
    }

    pub fn live_agent(&self, uid: &Uid) -> Option<&AgentConfig> {
        self.agents.values().find(|a| a.metadata.uid.as_deref() == Some(uid.0.as_str()))
    }
}
