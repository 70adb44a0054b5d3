//! The SQL of every database step, as a pure function of the step and of facts about the database. `perform` sends what is
//! rendered here; a dry run shows it.
//!
//! | file | what it renders |
//! | --- | --- |
//! | `statements` | the text of one message, and the statements that every message starts with |
//! | `ledger` | statements of several steps about the tenant's ledger row and ownership marks |
//! | `objects` | statements of several steps about roles, schemas and tables |
//! | `provision`, `adopt`, `close` | creating a tenant, taking over earlier data, closing a tenant |
//! | `access`, `keyring` | suspending, resuming and revoking access; recording the last keyring |
//! | `migrate`, `custom` | one migration file: built-in, or custom |
//! | `version` | what every migration file needs: checks, the version in the ledger, grants |
//! | `repair`, `set_aside` | repairing drift; moving the remains of lost data out of the way |
//! | `cell` | creating the roles of a cell |

mod access;
mod adopt;
mod cell;
mod close;
mod custom;
mod keyring;
mod ledger;
mod migrate;
mod objects;
mod provision;
mod repair;
mod set_aside;
mod statements;
mod version;

pub use cell::CellLogin;
pub(super) use cell::render_cell;
pub(super) use custom::{Session, session_seconds};
pub(super) use ledger::{Marked, check_marks};
pub(super) use migrate::render_failure_record;
pub(super) use objects::{Names, check_dependents, drop_objects};
pub(super) use statements::{KEEP_COMMITS, RenderError, Server, Statements, literals, optional, text_array};

use super::EpochFence;
use crate::{
    domain::ident::{DatabaseId, ObjectId},
    plan::step::DatabaseStep,
    settings::database::InstanceSettings,
};

/// The facts that the SQL of a step depends on, besides the step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SqlContext<'a> {
    /// Settings of the instance: the prefix of its role names, and its time limits.
    pub(crate) settings: &'a InstanceSettings,
    /// The server.
    pub(crate) server: Server,
    /// Identity of the database. Every ownership mark contains it.
    pub(crate) database_id: DatabaseId,
    /// Identity of the leader. The database refuses the step if a newer leader exists.
    pub(crate) fence: &'a EpochFence,
    /// SCRAM verifier of the password in the step, or a placeholder. Unused by steps without a password.
    pub(crate) verifier: &'a str,
}

/// The messages that are sent for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// One message. Postgres runs it as one transaction.
    Transaction(String),
    /// One message that may take as long as a migration.
    LongTransaction(String),
    /// A statement that can't run in a transaction, between two transactions.
    Outside {
        /// Checks whether the statement is still wanted.
        before: String,
        /// Prepares a separate session for the statement.
        prepare: String,
        /// The statement.
        statement: String,
        /// Records that the statement was run.
        after: String,
    },
    /// A file that runs in a session of a separate login, between two transactions.
    Session {
        /// Creates the login.
        open: String,
        /// The session.
        session: Session,
        /// Disables the login, and records that the file was applied.
        close: String,
        /// Disables the login after the file failed.
        abandon: String,
    },
}

impl Script {
    /// The texts in the order in which they are sent if no step of them fails.
    pub(crate) fn into_texts(self) -> Vec<String> {
        match self {
            Self::Transaction(text) | Self::LongTransaction(text) => vec![text],
            Self::Outside { before, prepare, statement, after } => vec![before, prepare + &statement, after],
            Self::Session { open, session, close, abandon: _ } => {
                let Session { login, text, .. } = session;
                let session = format!(
                    "-- in a session of login {login}, which may create objects in schema {login} only:\n{text}"
                );
                vec![open, session, close]
            }
        }
    }
}

/// Name of a step in errors.
pub(crate) fn name(step: &DatabaseStep) -> &'static str {
    match step {
        DatabaseStep::Provision(_) => "provisioning the tenant",
        DatabaseStep::Adopt(_) => "taking over the data",
        DatabaseStep::PreventAdoption { .. } => "preventing an adoption",
        DatabaseStep::Repair { .. } => "repairing the tenant",
        DatabaseStep::Migrate(file) => migrate::name(file.track),
        DatabaseStep::SetAside { .. } => "moving the remains out of the way",
        DatabaseStep::RecordKeyring { .. } => "recording the keyring",
        DatabaseStep::SuspendAccess { .. } => "suspending access",
        DatabaseStep::ResumeAccess { .. } => "resuming access",
        DatabaseStep::RevokeAccess { .. } => "revoking access",
        DatabaseStep::Close(_) => "closing the tenant",
    }
}

/// Renders the SQL of a step of `tenant`.
///
/// # Errors
/// Only because of a bug: a name or a value that SQL can't express.
pub(crate) fn render(step: &DatabaseStep, tenant: &ObjectId, context: &SqlContext<'_>) -> Result<Script, RenderError> {
    Ok(Script::Transaction(match step {
        DatabaseStep::Migrate(file) => return migrate::render_migration(file, context),
        DatabaseStep::Provision(provision) => provision::render_provision(provision, tenant, context)?,
        DatabaseStep::Adopt(adoption) => adopt::render_adoption(adoption, tenant, context)?,
        DatabaseStep::PreventAdoption { row } => adopt::render_prevention(row, context)?,
        DatabaseStep::Repair { row, found } => repair::render_repair(row, found, context)?,
        DatabaseStep::SetAside { tenant_id, name, remains } => {
            set_aside::render_set_aside(tenant_id, name, remains, context)?
        }
        DatabaseStep::RecordKeyring { row, mark } => keyring::render_record(row, mark, context)?,
        DatabaseStep::SuspendAccess { row } => access::render_suspension(row, context)?,
        DatabaseStep::ResumeAccess { row } => access::render_resumption(row, context)?,
        DatabaseStep::RevokeAccess { row } => access::render_revocation(row, context)?,
        DatabaseStep::Close(close) => close::render_close(close, tenant, context)?,
    }))
}
