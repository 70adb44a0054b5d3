//! The text of one transaction. Names and values enter it through `domain::sql` alone.

use super::{EpochFence, error::PgError, pool::Server};
use crate::{
    domain::{
        cells::{CellRoles, base_role},
        ident::{CellNumber, NamePrefix},
        sql::{quote_ident, quote_literal},
    },
    settings::database::InstanceSettings,
};

/// The cells' lock: held while a cell is made and while the control schema changes.
const CELLS_LOCK: i64 = 0x6167_656e_7463_656c;

/// Statements that are sent as one message, and so are one transaction.
pub(super) struct Script {
    server: Server,
    prefix: NamePrefix,
    text: String,
}

impl Script {
    /// Starts with limits and a search path in which nobody else can put anything. Without just-in-time compilation: the
    /// planner knows little of small new tables, and compiling took 80 ms for a read of one.
    pub(super) fn new(server: Server, settings: &InstanceSettings) -> Self {
        let text = format!(
            "SET LOCAL lock_timeout = '{}s';\nSET LOCAL statement_timeout = '{}s';\n\
             SET LOCAL jit = off;\nSET LOCAL search_path = pg_catalog, pg_temp;\n",
            settings.lock_timeout_seconds, settings.statement_timeout_seconds
        );
        Self { server, prefix: settings.name_prefix.clone(), text }
    }

    /// For statements outside of a transaction: the same limits for the rest of the session.
    pub(super) fn new_alone(server: Server, settings: &InstanceSettings) -> Self {
        let text = format!("SET lock_timeout = '{}s';\nSET jit = off;\n", settings.lock_timeout_seconds);
        Self { server, prefix: settings.name_prefix.clone(), text }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn server(&self) -> Server {
        self.server
    }

    pub(super) fn prefix(&self) -> &NamePrefix {
        &self.prefix
    }

    /// Adds a statement, which ends with its semicolon.
    pub(super) fn add(&mut self, statement: &str) {
        self.text.push_str(statement);
        self.text.push('\n');
    }

    /// From here on as the base role.
    pub(super) fn as_base(&mut self) -> Result<(), PgError> {
        let base = quote_ident(&base_role(&self.prefix))?;
        self.add(&format!("SET LOCAL ROLE {base};"));
        Ok(())
    }

    /// From here on as the owner role of a cell.
    pub(super) fn as_owner(&mut self, cell: CellNumber) -> Result<(), PgError> {
        let owner = quote_ident(&CellRoles::of(&self.prefix, cell).owner)?;
        self.add(&format!("SET LOCAL ROLE {owner};"));
        Ok(())
    }

    /// The same for the rest of the session, in which nothing else is done.
    pub(super) fn as_owner_from_now_on(&mut self, cell: CellNumber) -> Result<(), PgError> {
        let owner = quote_ident(&CellRoles::of(&self.prefix, cell).owner)?;
        self.add(&format!("SET ROLE {owner};"));
        Ok(())
    }

    /// As base, and only if nobody newer leads.
    pub(super) fn fenced(&mut self, fence: &EpochFence) -> Result<(), PgError> {
        self.as_base()?;
        let cluster = quote_literal(&fence.cluster_id)?;
        self.add(&format!("SELECT agent_tenancy.fence({cluster}, {});", fence.epoch));
        Ok(())
    }

    /// Waits for the cells' lock.
    pub(super) fn lock_cells(&mut self) {
        self.add(&format!("SELECT pg_advisory_xact_lock({CELLS_LOCK});"));
    }
}

/// A call's arguments.
pub(super) fn literals<const N: usize>(values: [&str; N]) -> Result<String, PgError> {
    let quoted = values.into_iter().map(quote_literal).collect::<Result<Vec<_>, _>>()?;
    Ok(quoted.join(", "))
}

/// A call's argument that may be left out.
pub(super) fn optional(value: Option<&str>) -> Result<String, PgError> {
    Ok(value.map(quote_literal).transpose()?.unwrap_or_else(|| "NULL".to_owned()))
}
