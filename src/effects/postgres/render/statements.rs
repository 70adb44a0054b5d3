//! The text of one message. Names and values enter it through `domain::sql` alone.

use super::{super::EpochFence, SqlContext};
use crate::{
    domain::{
        cells::{CellRoles, base_role},
        ident::{CellNumber, NamePrefix},
        migrations::GrantError,
        sql::{QuoteError, quote_ident, quote_literal},
    },
    settings::database::InstanceSettings,
};

/// The lock of the cells: held while a cell is created and while the control schema is migrated.
const CELLS_LOCK: i64 = 0x6167_656e_7463_656c;

/// The ledger's commits survive a crash also where the database or a role has set another `synchronous_commit`; a stronger one
/// stays. Returns a row only where it raises the setting.
pub(crate) const KEEP_COMMITS: &str = "SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local');";

/// A statement could not be rendered, which is a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// A name or a value can't be quoted.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// A grant in a migration file can't be parsed.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// The Postgres server that a text is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// `server_version_num`.
    pub(crate) version: u32,
}

impl Server {
    /// Since version 16, role memberships have options, and CREATEROLE administers only the roles that it created.
    pub(crate) fn has_membership_options(self) -> bool {
        self.version >= 160_000
    }

    /// The options of a GRANT by which a member may switch to the role but does not inherit its privileges.
    pub(crate) fn only_set(self) -> &'static str {
        if self.has_membership_options() { " WITH INHERIT FALSE, SET TRUE" } else { "" }
    }
}

/// The statements of one message. Postgres runs them as one transaction.
pub(crate) struct Statements {
    server: Server,
    prefix: NamePrefix,
    text: String,
}

impl Statements {
    /// Starts with what must not depend on the settings of the database or of a role: the isolation level, time limits, a
    /// search path that no other role can write to, and that creating a role grants nothing (16). Just-in-time compilation
    /// is off: the planner overestimates small new tables, and compiling took 80 ms for a read of one.
    pub(crate) fn new(server: Server, settings: &InstanceSettings) -> Self {
        let self_grant = if server.has_membership_options() { "SET LOCAL createrole_self_grant = '';\n" } else { "" };
        let text = format!(
            "SET LOCAL transaction_isolation = 'read committed';\n{self_grant}\
             SET LOCAL lock_timeout = '{}s';\nSET LOCAL statement_timeout = '{}s';\n\
             SET LOCAL jit = off;\nSET LOCAL search_path = pg_catalog, pg_temp;\n",
            settings.lock_timeout_seconds, settings.statement_timeout_seconds
        );
        Self { server, prefix: settings.name_prefix.clone(), text }
    }

    /// For statements outside of a transaction: the limits hold for the rest of the session.
    pub(super) fn new_alone(server: Server, settings: &InstanceSettings) -> Self {
        let text = format!("SET lock_timeout = '{}s';\nSET jit = off;\n", settings.lock_timeout_seconds);
        Self { server, prefix: settings.name_prefix.clone(), text }
    }

    /// Starts the statements of a step: as the base role, and only if no newer leader exists.
    pub(super) fn fenced_by(context: &SqlContext<'_>) -> Result<Self, RenderError> {
        let mut sql = Self::new(context.server, context.settings);
        sql.fenced(context.fence)?;
        Ok(sql)
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn server(&self) -> Server {
        self.server
    }

    pub(crate) fn prefix(&self) -> &NamePrefix {
        &self.prefix
    }

    /// Adds a statement, which ends with its semicolon.
    pub(crate) fn add(&mut self, statement: &str) {
        self.text.push_str(statement);
        self.text.push('\n');
    }

    /// Adds a block of PL/pgSQL.
    pub(super) fn add_block(&mut self, body: &str) -> Result<(), RenderError> {
        self.add(&format!("DO {};", quote_literal(body)?));
        Ok(())
    }

    /// Switches to the base role.
    pub(crate) fn as_base(&mut self) -> Result<(), RenderError> {
        let base = quote_ident(&base_role(&self.prefix))?;
        self.add(&format!("SET LOCAL ROLE {base};"));
        Ok(())
    }

    /// Switches to the owner role of a cell.
    pub(crate) fn as_owner(&mut self, cell: CellNumber) -> Result<(), RenderError> {
        let owner = quote_ident(&CellRoles::of(&self.prefix, cell).owner)?;
        self.add(&format!("SET LOCAL ROLE {owner};"));
        Ok(())
    }

    /// Switches to the owner role of a cell for the rest of the session.
    pub(super) fn as_owner_from_now_on(&mut self, cell: CellNumber) -> Result<(), RenderError> {
        let owner = quote_ident(&CellRoles::of(&self.prefix, cell).owner)?;
        self.add(&format!("SET ROLE {owner};"));
        Ok(())
    }

    /// Switches to the base role, and fails if a newer leader exists.
    pub(crate) fn fenced(&mut self, fence: &EpochFence) -> Result<(), RenderError> {
        self.as_base()?;
        let cluster = quote_literal(&fence.cluster_id)?;
        self.add(KEEP_COMMITS);
        self.add(&format!("SELECT agent_tenancy.fence({cluster}, {});", fence.epoch));
        Ok(())
    }

    /// Waits for the lock of the cells.
    pub(crate) fn lock_cells(&mut self) {
        self.add(&format!("SELECT pg_advisory_xact_lock({CELLS_LOCK});"));
    }
}

/// Arguments of a function call.
pub(crate) fn literals<const N: usize>(values: [&str; N]) -> Result<String, QuoteError> {
    let quoted = values.into_iter().map(quote_literal).collect::<Result<Vec<_>, _>>()?;
    Ok(quoted.join(", "))
}

/// An argument of a function call, or NULL.
pub(crate) fn optional(value: Option<&str>) -> Result<String, QuoteError> {
    Ok(value.map(quote_literal).transpose()?.unwrap_or_else(|| "NULL".to_owned()))
}

/// An array of texts.
pub(crate) fn text_array(texts: &[String]) -> Result<String, QuoteError> {
    let quoted = texts.iter().map(|text| quote_literal(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("ARRAY[{}]::text[]", quoted.join(", ")))
}
