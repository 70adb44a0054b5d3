//! The closed lists of steps. Each is idempotent, checks the ownership mark again, and is safe when its reply is lost.

use super::observed::{LedgerRow, Seen};
use crate::{
    api::{AgentConfigStatus, DeletionPolicy, Notice, TenantStatus},
    domain::{
        entry::{AgentEntry, Behaviour, TenantEntry, UpstreamEntry},
        ident::{CellNumber, Incarnation, TenantId, Uid, Version},
        keys::{KeyBytes, Keyring},
    },
};

/// One effect of a Tenant's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantStep {
    /// Puts the finalizer on the object.
    AddFinalizer,
    /// Publishes the login of a cell (`cell-` entry), then makes the cell's roles with it. A login that is published
    /// already is used instead of `password`.
    CreateCell {
        /// Which cell.
        cell: CellNumber,
        /// Password of the new login.
        password: KeyBytes,
    },
    /// One transaction: ledger row, role, schema, tables, grants, membership, marks.
    Provision(Provision),
    /// Makes right what drifted on an active tenant: grants and membership.
    RepairDatabase {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// Creates the signing Secret.
    CreateKeys {
        /// Its content.
        ring: Keyring,
    },
    /// Writes the registry entry.
    PutEntry {
        /// Its content.
        entry: Box<TenantEntry>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// One transaction: row state `deleting`, membership revoked. New transactions of the tenant can't start.
    RevokeAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: drops or keeps the objects, and leaves a tombstone.
    CloseDatabase(CloseDatabase),
    /// Deletes the registry entry.
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
    /// Takes the finalizer off the object.
    RemoveFinalizer,
    /// Writes the status.
    WriteStatus(Box<TenantStatus>),
    /// Writes an event.
    RecordEvent(Notice),
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
    /// A tombstone with this incarnation is replaced; `None` if there must be no row.
    pub replaces: Option<Incarnation>,
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
}

/// One effect of an AgentConfig's pass.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentStep {
    /// Puts the finalizer on the object.
    AddFinalizer,
    /// Keeps a revision as a ControllerRevision owned by the AgentConfig.
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
    /// Writes the registry entry.
    PutEntry {
        /// Its content.
        entry: Box<AgentEntry>,
        /// The version to replace; `None` creates.
        replace: Option<Version>,
    },
    /// Deletes the registry entry.
    DeleteEntry {
        /// UID of the Secret.
        uid: Uid,
        /// Version of the Secret.
        version: Version,
    },
    /// Deletes the entry of a credential that nothing refers to.
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
    /// An object was written at this version.
    At(Version),
}

/// Whether a part can be taken as absent for good: missing, and certainly so.
pub fn is_missing<T>(seen: &Seen<T>) -> bool {
    matches!(seen, Seen::Missing)
}
