//! A tenant's data as this reconcile plans it.

use crate::domain::{ident::Incarnation, keyring::KeyringMark, location::DataLocation};
use crate::plan::{
    installation::Installation,
    observed::LedgerRow,
    step::{Adoption, Provision},
};

/// A tenant's data, as it is or will be once the steps are done.
pub(crate) struct TenantData {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// Where it is.
    pub location: DataLocation,
    /// The keyring, as the ledger knows it.
    pub keyring: KeyringMark,
    /// The ledger row; `None` while it is being made.
    pub row: Option<LedgerRow>,
}

impl TenantData {
    /// The data of a tenant that is provisioned.
    pub(crate) fn of_provision(provision: &Provision, installation: &Installation) -> Self {
        Self {
            incarnation: provision.incarnation,
            location: DataLocation {
                instance: installation.instance.name.clone(),
                cell: provision.cell,
                schema: provision.schema.clone(),
                role: provision.role.clone(),
                schema_version: provision.schema_version,
            },
            keyring: provision.keyring.clone(),
            row: None,
        }
    }

    /// Data that is taken over.
    pub(crate) fn of_adoption(adoption: &Adoption, installation: &Installation) -> Self {
        Self {
            incarnation: adoption.incarnation,
            location: DataLocation {
                instance: installation.instance.name.clone(),
                cell: adoption.cell,
                schema: adoption.schema.clone(),
                role: adoption.role.clone(),
                schema_version: adoption.target_version,
            },
            keyring: adoption.keyring.clone(),
            row: None,
        }
    }

    /// The data of a ledger row, with tables of this version once the steps before are done.
    pub(crate) fn of_row(row: &LedgerRow, installation: &Installation, schema_version: i32) -> Self {
        Self {
            incarnation: row.incarnation,
            location: DataLocation {
                instance: installation.instance.name.clone(),
                cell: row.cell,
                schema: row.schema.clone(),
                role: row.role.clone(),
                schema_version,
            },
            keyring: row.keyring.clone(),
            row: Some(row.clone()),
        }
    }
}

/// The message on a database without drift.
pub(crate) fn provisioned_note(schema: &str) -> String {
    format!("schema '{schema}' is in place")
}
