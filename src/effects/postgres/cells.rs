//! Cells: counting their tenants, and choosing the cell of a new tenant.

use super::{Database, PgError};
use crate::domain::ident::{CellNumber, TenantId};
use crate::plan::observed::CellOffer;
use sqlx::Row;

impl Database {
    /// Counts the tenants of every cell. The first observation of a tenant calls it; it is repeated every few minutes,
    /// because another leader or an administrator may have changed the ledger.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn observe_cells(&self) -> Result<(), PgError> {
        const STEP: &str = "counting the cells";
        let rows = self
            .read(STEP, |sql| {
                sql.as_base()?;
                sql.add(
                    "SELECT c.number, count(t.tenant_id) \
                     + (SELECT count(*) FROM agent_tenancy.archives a WHERE a.cell = c.number) \
                     FROM agent_tenancy.cells c LEFT JOIN agent_tenancy.tenants t \
                     ON t.cell = c.number AND t.state <> 'dropped' GROUP BY c.number;",
                );
                Ok(())
            })
            .await?;
        let mut counts = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = row.try_get::<i32, _>(0).and_then(|cell| Ok((cell, row.try_get::<i64, _>(1)?)));
            let (cell, tenants) = read.map_err(|error| PgError::from_sqlx(STEP, &error, true))?;
            counts.push((CellNumber(cell), usize::try_from(tenants).unwrap_or_default()));
        }
        self.cells.load(counts);
        Ok(())
    }

    /// Whether the roles of a cell may exist: they are known to exist, or the cells were not counted yet.
    pub fn may_have_cell(&self, cell: CellNumber) -> bool {
        !self.cells.is_loaded() || self.cells.has(cell)
    }

    /// Whether the roles of a cell are known to exist.
    pub fn has_cell(&self, cell: CellNumber) -> bool {
        self.cells.has(cell)
    }

    /// Reserves a place in a cell for a new tenant.
    pub(super) async fn offer(&self, tenant: &TenantId) -> Result<CellOffer, PgError> {
        self.ensure_loaded().await?;
        Ok(self.cells.offer(tenant))
    }

    /// The cell that a new tenant would join.
    pub(super) async fn preview(&self, tenant: &TenantId) -> Result<CellOffer, PgError> {
        self.ensure_loaded().await?;
        Ok(self.cells.preview(tenant))
    }

    async fn ensure_loaded(&self) -> Result<(), PgError> {
        if !self.cells.is_loaded() {
            let _one = self.cells.loading.lock().await;
            if !self.cells.is_loaded() {
                self.observe_cells().await?;
            }
        }
        Ok(())
    }
}
