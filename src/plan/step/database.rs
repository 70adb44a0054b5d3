//! The steps that change the database of a tenant. `effects::postgres` renders each of them as SQL.

use crate::{
    api::DeletionPolicy,
    domain::{
        ident::{CellNumber, Incarnation, TenantId, Uid},
        keyring::KeyringMark,
        keys::KeyBytes,
        migrations::{Migration, Track},
    },
    plan::{drift::Drift, observed::LedgerRow},
};

/// A change of a tenant's data and its ledger row.
#[derive(Clone, Debug, PartialEq)]
pub enum DatabaseStep {
    /// One transaction: ledger row, role, schema, tables, grants, membership, marks. Fails if another row, role or schema
    /// exists; changes nothing if this tenant already exists.
    Provision(Provision),
    /// One transaction: this Tenant takes over the retained or archived data of an earlier one: row, names, migrations,
    /// grants, membership. Fails if the data has changed since it was observed; changes nothing if it was done before.
    Adopt(Adoption),
    /// Changes a retained row of an earlier Tenant, so that an adoption by this one that is still running fails.
    PreventAdoption {
        /// The row.
        row: LedgerRow,
    },
    /// Repairs the drift of a tenant in use. Fails if the row, its state or the marks have changed.
    Repair {
        /// The row of the tenant.
        row: LedgerRow,
        /// The drift, in the order in which it is repaired.
        found: Vec<Drift>,
    },
    /// Applies one migration file: its statements, its grants, and its record in the ledger; in one transaction if the file
    /// allows it. Fails unless the schema has the previous version; changes nothing if it has this one. A file that the server
    /// refuses is recorded in the ledger.
    Migrate(Box<Migrate>),
    /// One transaction: moves the remains of lost data out of the way, after a user accepted the loss. The row becomes a
    /// tombstone, the schema is kept under another name, the role is dropped. Changes only objects with the mark of the lost
    /// data.
    SetAside {
        /// The tenant.
        tenant_id: TenantId,
        /// Name of its schema and role.
        name: String,
        /// The remains of the lost data.
        remains: Remains,
    },
    /// Records in the ledger which keyring was written last. Fails unless the row is still this one and in use; never goes
    /// back to an earlier keyring.
    RecordKeyring {
        /// The row of the tenant.
        row: LedgerRow,
        /// The keyring.
        mark: KeyringMark,
    },
    /// One transaction: row state `suspended`, membership revoked. The tenant can't start new transactions. Fails unless the
    /// row is still this one, and is active or suspended.
    SuspendAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: row state `active`, membership granted. Fails unless the row is still this one, and is suspended or
    /// active.
    ResumeAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: row state `deleting`, membership revoked. The tenant can't start new transactions. Fails unless the
    /// row is still this one, and is in use or deleting.
    RevokeAccess {
        /// The row of the tenant.
        row: LedgerRow,
    },
    /// One transaction: drops or keeps the objects, and writes a tombstone. Revokes the remaining access, changes only objects
    /// with the mark of the row, and changes nothing if the tombstone exists. Without a row it only writes a tombstone, and
    /// fails if a row exists other than the tombstone that it replaces.
    Close(CloseDatabase),
}

impl DatabaseStep {
    /// The tenant id that the step uses in a database that may not know it yet.
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

    /// The password that the step sets.
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
    /// Version of its tables.
    pub schema_version: i32,
    /// Its first keyring.
    pub keyring: KeyringMark,
    /// Incarnation of the tombstone that is replaced; `None` if no row may exist.
    pub replaces: Option<Incarnation>,
}

/// One migration file for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrate {
    /// The observed row of the tenant.
    pub row: LedgerRow,
    /// Built-in or custom.
    pub track: Track,
    /// The file. The schema has to have the previous version.
    pub file: Migration,
    /// Checksums of all files that have been applied then, oldest first.
    pub checksums: Vec<String>,
    /// The retry request, which is recorded with a failure; empty if there is none.
    pub request: String,
    /// For the login that applies a custom migration.
    pub password: KeyBytes,
}

/// Data of an earlier Tenant that a new one takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Identity of the data, which does not change.
    pub incarnation: Incarnation,
    /// UID of the Tenant that owned it.
    pub previous: Uid,
    /// Its cell.
    pub cell: CellNumber,
    /// Its schema after the step.
    pub schema: String,
    /// Its role after the step.
    pub role: String,
    /// Version of its tables before the step.
    pub schema_version: i32,
    /// Version of its tables after the step.
    pub target_version: i32,
    /// The keyring that is created next.
    pub keyring: KeyringMark,
    /// Where the data is before the step.
    pub source: AdoptionSource,
}

impl Adoption {
    /// Describes the earlier owner of the data.
    pub fn describe_owner(&self) -> String {
        let uid = &self.previous;
        match &self.source {
            AdoptionSource::Predecessor { cluster_id, .. } => format!("Tenant {uid} of cluster {cluster_id}"),
            AdoptionSource::Retained { .. } | AdoptionSource::Archived { .. } => format!("the deleted Tenant {uid}"),
        }
    }
}

/// Where the data is before it is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptionSource {
    /// In a retained row of the ledger.
    Retained {
        /// When the row was retained, to the microsecond.
        since: jiff::Timestamp,
        /// The cluster of the owner, if the data is another namespace's and a takeover grant allows it. The grant is used up.
        granted_from: Option<String>,
    },
    /// In a row that a lost cluster was using.
    Predecessor {
        /// Its id.
        cluster_id: String,
        /// Seconds without a heartbeat after which the cluster counts as lost.
        heartbeat_timeout_seconds: u64,
        /// A takeover grant for this Tenant allows it, not the settings. The grant is used up.
        by_permission: bool,
    },
    /// In an archive.
    Archived {
        /// Its schema before the step.
        schema: String,
        /// Its role before the step.
        role: String,
        /// Incarnation of the tombstone that is replaced; `None` if no row may exist.
        replaces: Option<Incarnation>,
        /// As for a retained row.
        granted_from: Option<String>,
    },
}

/// Closing a tenant in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct CloseDatabase {
    /// The tenant.
    pub tenant_id: TenantId,
    /// What to do with its objects.
    pub policy: DeletionPolicy,
    /// Its row; `None` if nothing was created yet, so that only a tombstone is written.
    pub row: Option<LedgerRow>,
    /// Incarnation of the tombstone, if there is no row.
    pub incarnation: Incarnation,
    /// Incarnation of an earlier tombstone that is replaced; only if this Tenant has no row.
    pub replaces: Option<Incarnation>,
    /// Seconds for which an archive is kept.
    pub archive_seconds: i64,
}

/// What is left of a tenant that was given up, all of it with its mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Remains {
    /// Identity of the data that is given up.
    pub incarnation: Incarnation,
    /// Its row, if the ledger still has it.
    pub row: Option<LedgerRow>,
    /// A schema is there.
    pub schema: bool,
    /// A role is there.
    pub role: bool,
}
