//! The closed lists of steps. Each is idempotent, checks the ownership mark again, and is safe when its reply is lost.

use super::{
    drift::Drift,
    observed::{LedgerRow, Seen},
    tenant::loss::Remains,
};
use crate::{
    api::{AgentConfigStatus, DeletionPolicy, Notice, TenantStatus},
    domain::{
        entry::{AgentEntry, Behaviour, TenantEntry, UpstreamEntry},
        ident::{CellNumber, Incarnation, TenantId, Uid, Version},
        keyring::{Keyring, KeyringMark},
        keys::KeyBytes,
        migrations::{Migration, Track},
    },
};

/// One effect of a Tenant's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantStep {
    /// Puts the finalizer on the object. Fails where the object (by UID) is gone or being deleted.
    AddFinalizer,
    /// Publishes the login of a cell (`cell-` entry), then makes the cell's roles with it. A login that is published
    /// already is used instead of `password`.
    CreateCell {
        /// Which cell.
        cell: CellNumber,
        /// Password of the new login.
        password: KeyBytes,
    },
    /// One transaction: ledger row, role, schema, tables, grants, membership, marks. Fails if another row, role or
    /// schema is there; does nothing if this very one is.
    Provision(Provision),
    /// One transaction: the kept or archived data of an earlier Tenant becomes this one's: row, names, tables of this
    /// version, grants, membership. Fails unless it is still kept as it was seen; does nothing if it was done before.
    Adopt(Adoption),
    /// Changes a retained row of an earlier Tenant so that an adoption by this one, sent before and still under way, fails.
    PreventAdoption {
        /// The row.
        row: LedgerRow,
    },
    /// Makes right what drifted on a tenant in use. Fails unless the row is still this one, and in that state, and the
    /// marks are its own.
    RepairDatabase {
        /// The row of the tenant.
        row: LedgerRow,
        /// What was found, in the order in which it is put right.
        found: Vec<Drift>,
    },
    /// One file of migrations: its statements, its grants, and its record in the ledger, in one transaction where the file
    /// allows that. Fails unless the schema has the version before it; does nothing if it has it already. A file that the
    /// server refuses is noted in the ledger.
    Migrate(Box<Migrate>),
    /// One transaction: what is left of a tenant that a person gave up makes way for a new one. Its row becomes a
    /// tombstone, its schema is kept under another name, its role is dropped. Touches only what carries the mark of the
    /// lost data.
    SetAside {
        /// The tenant.
        tenant_id: TenantId,
        /// Name of its schema and role.
        name: String,
        /// What is left.
        remains: Remains,
    },
    /// Creates the signing Secret. One that exists is left alone: the step fails, and the next pass reads it.
    CreateKeys {
        /// Its content.
        keyring: Keyring,
    },
    /// Replaces the content of the signing Secret that was seen, at its version only. Where a key starts to sign that
    /// every replica must know (`acknowledged`), looks at the replicas once more, not in a cache, and fails while one
    /// does not.
    ReplaceKeys {
        /// The new content.
        keyring: Keyring,
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
        /// What changes.
        change: KeyChange,
        /// The entry version that every replica must have acknowledged.
        acknowledged: Option<Version>,
    },
    /// Tells the ledger which ring is the last one. Fails unless the row is still this one and in use, and never goes
    /// back to an earlier ring.
    RecordKeyring {
        /// The row of the tenant.
        row: LedgerRow,
        /// The ring.
        mark: KeyringMark,
    },
    /// Writes the registry entry, at the seen version only. Under the lock of references: fails while the entry of an
    /// AgentConfig to which an active one refers is not there.
    PutEntry {
        /// Its content.
        entry: Box<TenantEntry>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// One transaction: row state `suspended`, membership revoked. New transactions of the tenant can't start. Fails
    /// unless the row is still this one and active or already suspended.
    SuspendAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: row state `active`, membership granted. Fails unless the row is still this one and suspended or
    /// already active.
    ResumeAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: row state `deleting`, membership revoked. New transactions of the tenant can't start. Fails
    /// unless the row is still this one and in use or already deleting.
    RevokeAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: drops or keeps the objects, and leaves a tombstone. Revokes what access there still is, touches
    /// only objects that carry the row's mark, and does nothing where the tombstone is there already. Without a row it
    /// makes a tombstone, and fails if there is any row but the tombstone that it replaces.
    CloseDatabase(CloseDatabase),
    /// Deletes the registry entry. One that is gone already is a success; one that changed is not.
    DeleteEntry {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
    /// Deletes the signing Secret.
    DeleteKeys {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
    /// Takes the finalizer off the object. Looks once more, not in a cache, and fails while an entry with this Tenant's
    /// mark is there: a new leader's cache may lag, and after this step nobody would look for it.
    RemoveFinalizer,
    /// Writes the status.
    WriteStatus(Box<TenantStatus>),
    /// Writes an event.
    RecordEvent(Notice),
}

/// What changes in a keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A new key, to be known everywhere before it signs.
    Standby,
    /// The new key signs.
    Promotion,
    /// Keys verify nothing any more.
    Revocation,
    /// Keys that are over are left out, or the longest token is noted.
    Tidying,
    /// The Secret was lost, edited or an older one, and is made right.
    Repair,
}

/// A new tenant in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provision {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Identity of its data.
    pub incarnation: Incarnation,
    /// Its cell.
    pub cell: CellNumber,
    /// Its schema.
    pub schema: String,
    /// Its role.
    pub role: String,
    /// Version of the tables that it gets.
    pub schema_version: i32,
    /// Its first keyring.
    pub keyring: KeyringMark,
    /// A tombstone with this incarnation is replaced; `None` if there must be no row.
    pub replaces: Option<Incarnation>,
}

/// One file for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrate {
    /// The row of the tenant, as it was seen.
    pub row: LedgerRow,
    /// Whose file.
    pub track: Track,
    /// The file. The schema has to have the version before it.
    pub file: Migration,
    /// Checksums of everything that the schema has had then, oldest first.
    pub checksums: Vec<String>,
    /// The request that asked for it, kept with a failure; empty if nobody asked.
    pub request: String,
    /// For the login that applies one of the platform team's own.
    pub password: KeyBytes,
}

/// An earlier tenant's data that a new one takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Identity of the data; survives.
    pub incarnation: Incarnation,
    /// UID of the Tenant that owned it.
    pub previous: Uid,
    /// Its cell.
    pub cell: CellNumber,
    /// Its schema, in the end.
    pub schema: String,
    /// Its role, in the end.
    pub role: String,
    /// Version of its tables as they are.
    pub schema_version: i32,
    /// Version that they get in the same transaction.
    pub target_version: i32,
    /// The keyring that is about to be made.
    pub keyring: KeyringMark,
    /// Where it is now.
    pub source: AdoptionSource,
}

impl Adoption {
    /// Whose the data was, for people.
    pub fn describe_owner(&self) -> String {
        let uid = &self.previous;
        match &self.source {
            AdoptionSource::Predecessor { cluster_id, .. } => format!("Tenant {uid} of cluster {cluster_id}"),
            AdoptionSource::Retained { .. } | AdoptionSource::Archived { .. } => format!("the deleted Tenant {uid}"),
        }
    }
}

/// Where the data is that is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptionSource {
    /// In a row of the ledger that has been `retained` since then, to the microsecond.
    Retained {
        /// Since when.
        since: jiff::Timestamp,
    },
    /// In a row of the ledger in use by a cluster that is no more.
    Predecessor {
        /// Its id.
        cluster_id: String,
        /// How long nothing must have been heard of it, in seconds.
        silence_seconds: u64,
        /// The settings don't name it: a person allowed it for this Tenant, and that is used up.
        by_permission: bool,
    },
    /// In an archive.
    Archived {
        /// Its schema now.
        schema: String,
        /// Its role now.
        role: String,
        /// The tombstone in whose place the row goes; `None` if there must be no row.
        replaces: Option<Incarnation>,
    },
}

/// The end of a tenant in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct CloseDatabase {
    /// The tenant.
    pub tenant_id: TenantId,
    /// What to do with its objects.
    pub policy: DeletionPolicy,
    /// Its row; `None` where nothing was made yet: a tombstone alone.
    pub row: Option<LedgerRow>,
    /// Incarnation of the tombstone where there is no row.
    pub incarnation: Incarnation,
    /// The earlier tenant's tombstone, by its incarnation, in whose place it goes; only where there is no row of ours.
    pub replaces: Option<Incarnation>,
    /// How long an archive is kept, in seconds.
    pub archive_seconds: i64,
}

/// One effect of an AgentConfig's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentStep {
    /// Puts the finalizer on the object.
    AddFinalizer,
    /// Keeps a revision as a ControllerRevision owned by the AgentConfig. One with this number and hash is a success;
    /// one with another hash is not.
    CreateRevision {
        /// Its number.
        number: i64,
        /// Hash of its behaviour.
        hash: String,
        /// What it does.
        behaviour: Box<Behaviour>,
    },
    /// Deletes an old revision.
    DeleteRevision {
        /// Name of the ControllerRevision.
        name: String,
    },
    /// Writes the entry of a credential; its content never changes, so an existing one is left alone.
    PutUpstream(UpstreamEntry),
    /// Writes the registry entry, at the seen version only. Under the lock of references: fails while the entry of the
    /// credential to which it refers is not there.
    PutEntry {
        /// Its content.
        entry: Box<AgentEntry>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// Deletes the registry entry. Under the lock of references: fails while a tenant's entry refers to it.
    DeleteEntry {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
    /// Deletes the entry of a credential. Under the lock of references: fails while an AgentConfig's entry refers to it.
    DeleteUpstream {
        /// Hash that names it.
        hash: String,
        /// Version of the Secret.
        version: Version,
    },
    /// Takes the finalizer off the object.
    RemoveFinalizer,
    /// Writes the status.
    WriteStatus(Box<AgentConfigStatus>),
    /// Writes an event.
    RecordEvent(Notice),
}

/// What a step that went well says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing more.
    Plain,
    /// A registry entry was written at this version (no other object's version is comparable with acknowledgements).
    At(Version),
}

/// Whether a part can be taken as absent for good: missing, and certainly so.
pub fn is_missing<T>(seen: &Seen<T>) -> bool {
    matches!(seen, Seen::Missing)
}
