//! The steps that change the database of a tenant: each is rendered as SQL by `effects::postgres`.

use crate::{
    api::DeletionPolicy,
    domain::{
        ident::{CellNumber, Incarnation, TenantId, Uid},
        keyring::KeyringMark,
        keys::KeyBytes,
        migrations::{Migration, Track},
    },
    plan::{drift::Drift, observed::LedgerRow, tenant::loss::Remains},
};

/// A change of a tenant's data and of its row in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum DatabaseStep {
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
    Repair {
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
    /// Tells the ledger which ring is the last one. Fails unless the row is still this one and in use, and never goes
    /// back to an earlier ring.
    RecordKeyring {
        /// The row of the tenant.
        row: LedgerRow,
        /// The ring.
        mark: KeyringMark,
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
    Close(CloseDatabase),
}

impl DatabaseStep {
    /// The tenant id of which the step makes something that may be nowhere yet.
    pub fn claimed_id(&self) -> Option<&TenantId> {
        if let Self::Provision(Provision { tenant_id, .. })
        | Self::Adopt(Adoption { tenant_id, .. })
        | Self::Close(CloseDatabase { tenant_id, row: None, .. }) = self
        {
            Some(tenant_id)
        } else {
            None
        }
    }

    /// The password that the step gives a login.
    pub fn password(&self) -> Option<&KeyBytes> {
        let Self::Migrate(file) = self else { return None };
        (file.track == Track::Custom).then_some(&file.password)
    }
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
