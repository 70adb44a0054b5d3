//! The tenant ids with data in a database, for choosing between several databases.

use super::{Database, PgError, instance::name_missing_schema};
use crate::domain::ident::TenantId;
use sqlx::{Row, postgres::PgRow};

const STEP: &str = "listing the tenant ids";

impl Database {
    /// Every tenant id with data of any cluster, and whether the data is in use. One round trip.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_residents(&self) -> Result<Vec<(TenantId, bool)>, PgError> {
        let rows = self
            .read(STEP, |sql| {
                sql.as_base()?;
                sql.add(
                    "SELECT k.tenant_id, bool_or(k.in_use) FROM (SELECT t.tenant_id, \
                     t.state IN ('active', 'suspended', 'deleting') AS in_use FROM agent_tenancy.tenants t \
                     WHERE t.state <> 'dropped' \
                     UNION ALL SELECT a.tenant_id, false FROM agent_tenancy.archives a) k GROUP BY k.tenant_id;",
                );
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        rows.iter().map(|row| read(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }
}

fn read(row: &PgRow) -> Result<(TenantId, bool), sqlx::Error> {
    let id: String = row.try_get(0)?;
    let id = TenantId::parse(&id).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok((id, row.try_get(1)?))
}
