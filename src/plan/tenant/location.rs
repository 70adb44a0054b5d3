//! Where a tenant's data is or will be.

use crate::domain::{
    entry::EntryDatabase,
    ident::{CellNumber, Incarnation},
    keyring::KeyringMark,
};
use crate::plan::{
    inputs::Inputs,
    observed::LedgerRow,
    step::{Adoption, Provision},
};

/// Where the tenant's data is or will be.
pub(crate) struct DataLocation {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// Where it is.
    pub database: EntryDatabase,
    /// The keyring, as the ledger knows it.
    pub keyring: KeyringMark,
    /// The ledger row; `None` while it is being made.
    pub row: Option<LedgerRow>,
}

/// A tenant's objects in its database.
struct Objects<'a> {
    cell: CellNumber,
    schema: &'a str,
    role: &'a str,
    schema_version: i32,
}

impl DataLocation {
    /// Where a new tenant is put.
    pub(crate) fn of_provision(inputs: Inputs<'_>, provision: &Provision) -> Self {
        let Provision { cell, schema, role, schema_version, .. } = provision;
        let objects = Objects { cell: *cell, schema, role, schema_version: *schema_version };
        Self {
            incarnation: provision.incarnation,
            database: objects.describe(inputs),
            keyring: provision.keyring.clone(),
            row: None,
        }
    }

    /// Where data is that is taken over.
    pub(crate) fn of_adoption(inputs: Inputs<'_>, adoption: &Adoption) -> Self {
        let Adoption { cell, schema, role, target_version, .. } = adoption;
        let objects = Objects { cell: *cell, schema, role, schema_version: *target_version };
        Self {
            incarnation: adoption.incarnation,
            database: objects.describe(inputs),
            keyring: adoption.keyring.clone(),
            row: None,
        }
    }

    /// Where the ledger says it is, with tables that have this version once the steps before are done.
    pub(crate) fn of_row(inputs: Inputs<'_>, row: &LedgerRow, schema_version: i32) -> Self {
        let objects = Objects { cell: row.cell, schema: &row.schema, role: &row.role, schema_version };
        Self {
            incarnation: row.incarnation,
            database: objects.describe(inputs),
            keyring: row.keyring.clone(),
            row: Some(row.clone()),
        }
    }
}

impl Objects<'_> {
    /// What the entry says of the database.
    fn describe(self, inputs: Inputs<'_>) -> EntryDatabase {
        let Inputs { desired, installation, .. } = inputs;
        EntryDatabase {
            instance: installation.home.name.clone(),
            cell: self.cell,
            schema: self.schema.to_owned(),
            role: self.role.to_owned(),
            schema_version: self.schema_version,
            max_concurrent_transactions: desired.max_concurrent_transactions,
            statement_timeout_seconds: desired.statement_timeout_seconds,
            storage_limit_bytes: desired.storage_limit_bytes,
        }
    }
}

/// What is said of a database that is as it should be.
pub(crate) fn provisioned_note(schema: &str) -> String {
    format!("schema '{schema}' is in place")
}
