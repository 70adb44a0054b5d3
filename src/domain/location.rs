//! Where a tenant's data is: planned by the operator, published in the tenant's entry, used by the agent API.

use super::ident::CellNumber;
use serde::{Deserialize, Serialize};

/// Where a tenant's data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataLocation {
    /// Name of the database instance in the operator's settings.
    pub instance: String,
    /// The cell with a login that has access to it.
    pub cell: CellNumber,
    /// Schema with the tenant's tables.
    pub schema: String,
    /// Role to set in each transaction.
    pub role: String,
    /// Version of the tenant's schema.
    pub schema_version: i32,
}
