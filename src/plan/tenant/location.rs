//! Where a tenant's data is or will be.

use crate::domain::{
    entry::EntryDatabase,
    ident::{CellNumber, Incarnation},
    keyring::KeyringMark,
    resolve::DesiredTenant,
};
use crate::plan::{installation::Installation, observed::LedgerRow};

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

impl DataLocation {
    /// Where this pass puts it: new, or taken over, with tables of `schema_version`.
    pub(crate) fn to_be(
        desired: &DesiredTenant,
        installation: &Installation,
        incarnation: Incarnation,
        place: (CellNumber, &str, &str),
        schema_version: i32,
        keyring: KeyringMark,
    ) -> Self {
        let database = database_of(desired, installation, place, schema_version);
        Self { incarnation, database, keyring, row: None }
    }

    /// Where the ledger says it is, with tables that have this version once the steps before are done.
    pub(crate) fn of_row(
        desired: &DesiredTenant,
        installation: &Installation,
        row: &LedgerRow,
        schema_version: i32,
    ) -> Self {
        Self {
            incarnation: row.incarnation,
            database: database_of(desired, installation, (row.cell, &row.schema, &row.role), schema_version),
            keyring: row.keyring.clone(),
            row: Some(row.clone()),
        }
    }
}

/// What the entry says of the database.
fn database_of(
    desired: &DesiredTenant,
    installation: &Installation,
    (cell, schema, role): (CellNumber, &str, &str),
    schema_version: i32,
) -> EntryDatabase {
    EntryDatabase {
        instance: installation.home.name.clone(),
        cell,
        schema: schema.to_owned(),
        role: role.to_owned(),
        schema_version,
        max_concurrent_transactions: desired.max_concurrent_transactions,
        statement_timeout_seconds: desired.statement_timeout_seconds,
        storage_limit_bytes: desired.storage_limit_bytes,
    }
}

/// What is said of a database that is as it should be.
pub(crate) fn provisioned_note(schema: &str) -> String {
    format!("schema '{schema}' is in place")
}
