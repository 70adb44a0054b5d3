//! Cells: making their roles, and counting who is in them.

use super::{Database, Fence, PgError, script::literals};
use crate::domain::{
    cells::CellRoles,
    ident::{CellNumber, TenantId},
    keys::KeyBytes,
    scram::render_verifier,
};
use crate::plan::observed::CellOffer;
use aws_lc_rs::rand;
use sqlx::Row;

impl Database {
    /// Makes the roles of a cell where they are missing, and sets the password of its first login: printable ASCII, of
    /// which only the verifier leaves this process.
    ///
    /// One transaction under the cells' lock. Running it again is harmless; the login then has the later password.
    ///
    /// # Errors
    /// `Conflict` if a role of that name exists that is not this cell's.
    pub async fn perform_create_cell(
        &self,
        cell: CellNumber,
        password: &KeyBytes,
        fence: &Fence,
    ) -> Result<(), PgError> {
        const STEP: &str = "making the cell";
        let mut salt = [0_u8; 16];
        rand::fill(&mut salt).map_err(|_| PgError::bug(STEP, "the machine gives no randomness"))?;
        let password = password.clone();
        // A few milliseconds of computing: not on a thread that serves everybody.
        let verifier = tokio::task::spawn_blocking(move || render_verifier(password.expose(), &salt))
            .await
            .map_err(|_| PgError::bug(STEP, "computing the verifier ended early"))??;
        let fence = fence.clone();
        let write = move |script: &mut super::Script| {
            script.fenced(&fence)?;
            script.lock_cells();
            let roles = CellRoles::of(script.prefix(), cell);
            let [login_a, login_b] = &roles.logins;
            let names = literals([&roles.owner, &roles.access, login_a, login_b, &verifier])?;
            script.add(&format!("SELECT agent_tenancy.make_cell({cell}, {names});"));
            Ok(())
        };
        self.change(STEP, write).await?;
        self.cells.made(cell);
        Ok(())
    }

    /// Counts the tenants of every cell anew. The first look at a tenant does it by itself; to be repeated every few
    /// minutes, because another leader, or people, may have changed the ledger.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn observe_cells(&self) -> Result<(), PgError> {
        const STEP: &str = "counting the cells";
        let rows = self
            .read(STEP, |script| {
                script.as_base()?;
                script.add(
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

    /// Whether the roles of a cell are known to exist.
    pub fn has_cell(&self, cell: CellNumber) -> bool {
        self.cells.has(cell)
    }

    /// The cell that a new tenant would join.
    pub(super) async fn offer(&self, tenant: &TenantId) -> Result<CellOffer, PgError> {
        if !self.cells.is_loaded() {
            let _one = self.cells.loading.lock().await;
            if !self.cells.is_loaded() {
                self.observe_cells().await?;
            }
        }
        Ok(self.cells.offer(tenant))
    }
}
