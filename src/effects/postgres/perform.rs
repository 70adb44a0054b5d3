//! Performing database steps: the rendered script is sent, and its result is handled.

use super::{
    ConnectionRole, Database, PgError, PgErrorKind, Writer,
    instance::name_missing_schema,
    logins::verifier,
    render::{self, CellLogin, Script, Server, SqlContext, render_cell, render_failure_record},
};
use crate::{
    api::DeletionPolicy,
    domain::{
        class::ErrorClass,
        ident::{CellNumber, Incarnation, ObjectId},
        sqlstate,
    },
    plan::{
        observed::{RowState, applied::render_failure},
        step::{DatabaseStep, Migrate},
    },
};
use sqlx::postgres::PgRow;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Longest message of a failed migration that is recorded, in characters.
const MAX_MESSAGE: usize = 300;

/// Placeholder of a password's verifier in a dry run.
const VERIFIER: &str = "<SCRAM verifier of the new password>";

/// Tenants with a migration that is running in this process. A migration can outlive its reconcile; it is not started twice.
#[derive(Clone, Default)]
pub(super) struct RunningMigrations(Arc<Mutex<HashSet<Incarnation>>>);

struct RunningMigration(RunningMigrations, Incarnation);

impl RunningMigrations {
    fn begin(&self, step: &DatabaseStep) -> Result<Option<RunningMigration>, PgError> {
        let DatabaseStep::Migrate(file) = step else { return Ok(None) };
        let incarnation = file.row.incarnation;
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(incarnation);
        let busy = || PgError::interrupted(render::name(step), "a migration of this tenant is still running");
        free.then(|| Some(RunningMigration(self.clone(), incarnation))).ok_or_else(busy)
    }
}

impl Drop for RunningMigration {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Database {
    /// Performs a step of a Tenant. A step that was already performed succeeds, so it can be repeated after a lost reply.
    ///
    /// # Errors
    /// `Conflict` if an object that the step names has another owner or no longer exists; `Transient` if the state that the
    /// step was planned from has changed; [`PgErrorKind::FileFailed`] if the server refused a migration file, which is then
    /// recorded in the ledger.
    pub async fn perform(&self, step: &DatabaseStep, tenant: &ObjectId, writer: &Writer) -> Result<(), PgError> {
        let _running = self.migrating.begin(step)?;
        let result = match self.send_step(step, tenant, writer).await {
            Err(error) if error.kind == PgErrorKind::AlreadyDone => Ok(()),
            Err(error) => Err(self.resolve_error(step, error, writer).await),
            Ok(()) => Ok(()),
        };
        self.settle(step, &result);
        result
    }

    /// Renders the messages that [`Self::perform`] sends, with a placeholder instead of the password's verifier.
    ///
    /// # Errors
    /// Only because of a bug.
    pub fn render(&self, step: &DatabaseStep, tenant: &ObjectId, writer: &Writer) -> Result<Vec<String>, PgError> {
        Ok(render::render(step, tenant, &self.context(self.pool.server(), writer, VERIFIER))?.into_texts())
    }

    /// Creates the missing roles of a cell, and sets its login. Idempotent.
    ///
    /// # Errors
    /// `Conflict` if another role has one of the names.
    pub async fn perform_create_cell(
        &self,
        cell: CellNumber,
        login: &CellLogin,
        writer: &Writer,
    ) -> Result<(), PgError> {
        const NAME: &str = "creating the cell";
        let verifier = verifier(NAME, &login.password).await?;
        let server = self.pool.known_server(NAME).await?;
        let text = render_cell(cell, login, &self.context(server, writer, &verifier))?;
        self.send(NAME, ConnectionRole::Change, server, text).await?;
        self.cells.made(cell);
        Ok(())
    }

    /// Renders the message that [`Self::perform_create_cell`] sends, with a placeholder instead of the password's verifier.
    ///
    /// # Errors
    /// Only because of a bug.
    pub fn render_create_cell(&self, cell: CellNumber, login: &CellLogin, writer: &Writer) -> Result<String, PgError> {
        Ok(render_cell(cell, login, &self.context(self.pool.server(), writer, VERIFIER))?)
    }

    fn context<'a>(&'a self, server: Server, writer: &'a Writer, verifier: &'a str) -> SqlContext<'a> {
        let Writer { database_id, fence } = writer;
        SqlContext { settings: &self.settings, server, database_id: *database_id, fence, verifier }
    }

    async fn send_step(&self, step: &DatabaseStep, tenant: &ObjectId, writer: &Writer) -> Result<(), PgError> {
        let name = render::name(step);
        let verifier = match step.password() {
            Some(password) => verifier(name, password).await?,
            None => String::new(),
        };
        let server = self.pool.known_server(name).await?;
        match render::render(step, tenant, &self.context(server, writer, &verifier))? {
            Script::Transaction(text) => self.send(name, ConnectionRole::Change, server, text).await.map(drop),
            Script::LongTransaction(text) => self.send(name, ConnectionRole::SlowChange, server, text).await.map(drop),
            Script::Outside { before, prepare, statement, after } => {
                self.send(name, ConnectionRole::Change, server, before).await?;
                self.pool.run_alone(name, server, [prepare, statement]).await?;
                self.send(name, ConnectionRole::Change, server, after).await.map(drop)
            }
            Script::Session { open, session, close, abandon } => {
                self.send(name, ConnectionRole::Change, server, open).await?;
                let applied = self.run_session(name, session).await;
                let end = if applied.is_ok() { close } else { abandon };
                let ended = self.send(name, ConnectionRole::Change, server, end).await;
                applied.and(ended.map(drop))
            }
        }
    }

    /// Sends one message. A connection to a server of another version than it was rendered for is refused.
    async fn send(
        &self,
        name: &'static str,
        access: ConnectionRole,
        rendered_for: Server,
        text: String,
    ) -> Result<Vec<PgRow>, PgError> {
        let render = move |server: Server| match server == rendered_for {
            true => Ok(text.clone()),
            false => Err(PgError::another_server(name)),
        };
        self.pool.run(name, access, render).await
    }

    /// Classifies an error by the step that failed.
    async fn resolve_error(&self, step: &DatabaseStep, error: PgError, writer: &Writer) -> PgError {
        match step {
            DatabaseStep::Provision(_) => name_missing_schema(error),
            // A role that the drift names was dropped meanwhile. The next reconcile finds the drift that is left.
            DatabaseStep::Repair { .. } if error.code() == sqlstate::UNDEFINED_OBJECT => {
                PgError { class: ErrorClass::Transient, ..error }
            }
            DatabaseStep::Migrate(file) if is_files_fault(&error) => self.record_failure(file, error, writer).await,
            DatabaseStep::Adopt(_)
            | DatabaseStep::PreventAdoption { .. }
            | DatabaseStep::Repair { .. }
            | DatabaseStep::Migrate(_)
            | DatabaseStep::SetAside { .. }
            | DatabaseStep::RecordKeyring { .. }
            | DatabaseStep::SuspendAccess { .. }
            | DatabaseStep::ResumeAccess { .. }
            | DatabaseStep::RevokeAccess { .. }
            | DatabaseStep::Close(_) => error,
        }
    }

    /// Records a failed file in the ledger. The next reconcile reads it there.
    async fn record_failure(&self, file: &Migrate, error: PgError, writer: &Writer) -> PgError {
        const NAME: &str = "recording a failed migration";
        let message: String = error.note.chars().take(MAX_MESSAGE).collect();
        let recorded = async {
            let server = self.pool.known_server(NAME).await?;
            let text = render_failure_record(file, &message, &self.context(server, writer, ""))?;
            self.send(NAME, ConnectionRole::Change, server, text).await
        };
        match recorded.await {
            Err(failed) if failed.kind != PgErrorKind::AlreadyDone => failed,
            Ok(_) | Err(_) => {
                let note = render_failure(file.track, &file.file.name, &message);
                PgError { class: ErrorClass::Transient, kind: PgErrorKind::FileFailed, note, ..error }
            }
        }
    }

    /// Updates the number of tenants in each cell.
    fn settle(&self, step: &DatabaseStep, result: &Result<(), PgError>) {
        match step {
            DatabaseStep::Provision(made) => match result {
                Ok(()) => self.cells.settle(&made.tenant_id, Some(made.cell)),
                Err(error) if error.kind == PgErrorKind::Refused => self.cells.settle(&made.tenant_id, None),
                // The reply was lost. The reservation is kept until the next observation.
                Err(_) => {}
            },
            // The data was counted in its cell before.
            DatabaseStep::Adopt(adoption) if result.is_ok() => self.cells.settle(&adoption.tenant_id, None),
            DatabaseStep::Close(close) if result.is_ok() => {
                self.cells.settle(&close.tenant_id, None);
                match (&close.row, close.policy) {
                    (Some(row), DeletionPolicy::Delete) if row.state != RowState::Dropped => self.cells.leave(row.cell),
                    // Archives are counted in their cell.
                    (Some(_) | None, DeletionPolicy::Delete | DeletionPolicy::Archive | DeletionPolicy::Retain) => {}
                }
            }
            DatabaseStep::Adopt(_)
            | DatabaseStep::PreventAdoption { .. }
            | DatabaseStep::Repair { .. }
            | DatabaseStep::Migrate(_)
            | DatabaseStep::SetAside { .. }
            | DatabaseStep::RecordKeyring { .. }
            | DatabaseStep::SuspendAccess { .. }
            | DatabaseStep::ResumeAccess { .. }
            | DatabaseStep::RevokeAccess { .. }
            | DatabaseStep::Close(_) => {}
        }
    }
}

/// Whether the file caused the error: not a passing condition, and not a check of ours. A unique violation is caused by data
/// that does not fit, and a statement that timed out would time out again.
fn is_files_fault(error: &PgError) -> bool {
    let code = error.code();
    let passing =
        error.class == ErrorClass::Transient && !matches!(code, sqlstate::UNIQUE_VIOLATION | sqlstate::CANCELED);
    error.kind == PgErrorKind::Refused && !code.is_empty() && !code.starts_with("AT") && !passing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            ident::{DatabaseId, Epoch, TenantId, Uid},
            keyring::KeyringMark,
            keys::KeyBytes,
            logins::LoginSlot,
        },
        effects::postgres::EpochFence,
        plan::step::{CloseDatabase, Provision},
        settings::{Settings, operator::OperatorSettings},
    };
    use uuid::Uuid;

    /// No server listens at this address.
    fn nowhere() -> Database {
        let mut settings = OperatorSettings::default();
        settings.database.port = 1;
        assert_eq!(settings.check(), Ok(()));
        Database::new(settings.database)
    }

    #[test]
    fn rendering_sends_nothing_and_shows_no_verifier() {
        let database = nowhere();
        let fence = EpochFence { cluster_id: "cluster".into(), epoch: Epoch(7) };
        let writer = Writer { database_id: DatabaseId(Uuid::from_u128(2)), fence };
        let password = KeyBytes::new(b"canary-password-canary-password".to_vec());
        let login = CellLogin { slot: LoginSlot::A, id: None, password };
        let cell = database.render_create_cell(CellNumber(3), &login, &writer).unwrap();
        assert!(cell.contains("agent_tenancy.fence('cluster', 7)"), "{cell}");
        assert!(cell.contains(VERIFIER) && !cell.contains("SCRAM-SHA-256$") && !cell.contains("canary"), "{cell}");

        let owner = ObjectId { namespace: "shop".into(), name: "acme".into(), uid: Uid("<uid>".into()) };
        let provision = Provision {
            tenant_id: TenantId::parse("acme").unwrap(),
            incarnation: Incarnation(Uuid::from_u128(1)),
            cell: CellNumber(3),
            schema: "at_acme".into(),
            role: "at_acme".into(),
            schema_version: 1,
            keyring: KeyringMark { version: 1, digest: "digest".into() },
            replaces: None,
        };
        let close = CloseDatabase {
            tenant_id: provision.tenant_id.clone(),
            policy: DeletionPolicy::Delete,
            row: None,
            incarnation: provision.incarnation,
            replaces: None,
            archive_seconds: 60,
        };
        let render = |step| <[String; 1]>::try_from(database.render(&step, &owner, &writer).unwrap()).unwrap();
        let ([made], [closed]) = (render(DatabaseStep::Provision(provision)), render(DatabaseStep::Close(close)));
        for part in ["CREATE ROLE \"at_acme\"", "CREATE SCHEMA \"at_acme\"", "'<uid>'", "COMMENT ON SCHEMA"] {
            assert!(made.contains(part), "{part} in {made}");
        }
        assert!(closed.contains("agent_tenancy.bury('acme'"), "{closed}");
        assert_eq!(database.round_trips(), 0);
    }
}
