//! Cells: making their roles, and counting who is in them.

use super::{
    Database, EpochFence, PgError,
    logins::verifier,
    script::{literals, optional},
};
use crate::domain::{
    cells::CellRoles,
    ident::{CellNumber, LoginId, TenantId},
    keys::KeyBytes,
    logins::LoginSlot,
    sql::quote_literal,
};
use crate::plan::observed::CellOffer;
use sqlx::Row;

/// The login of a cell, as its entry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellLogin {
    /// Which of the two.
    pub slot: LoginSlot,
    /// Which password that is; none in what an earlier version wrote.
    pub id: Option<LoginId>,
    /// Printable ASCII, of which only the verifier leaves this process.
    pub password: KeyBytes,
}

impl Database {
    /// Makes the roles of a cell where they are missing, and gives it its login. In a cell that is there, the login is set
    /// only if it is not this one already.
    ///
    /// One transaction under the cells' lock. Running it again is harmless.
    ///
    /// # Errors
    /// `Conflict` if a role of that name exists that is not this cell's.
    pub async fn perform_create_cell(
        &self,
        cell: CellNumber,
        login: &CellLogin,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        const STEP: &str = "making the cell";
        let verifier = verifier(STEP, &login.password).await?;
        let (slot, id, fence) = (login.slot, login.id, fence.clone());
        let write = move |script: &mut super::Script| {
            script.fenced(&fence)?;
            script.lock_cells();
            let roles = CellRoles::of(script.prefix(), cell);
            let [login_a, login_b] = &roles.logins;
            let names = literals([&roles.owner, &roles.access, login_a, login_b, slot.as_str()])?;
            let (id, verifier) = (optional(id.map(|id| id.to_string()).as_deref())?, quote_literal(&verifier)?);
            script.add(&format!("SELECT agent_tenancy.make_cell({cell}, {names}, {id}, {verifier});"));
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

    /// Whether the roles of a cell may exist: they are known to, or the cells were not counted yet.
    pub fn may_have_cell(&self, cell: CellNumber) -> bool {
        !self.cells.is_loaded() || self.cells.has(cell)
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
