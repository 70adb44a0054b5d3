//! Applying one file of migrations to one tenant, and noting in the ledger that it was applied, or that it failed.
//!
//! The ledger and the file change in one transaction where the file allows it. One that does not (`-- no-transaction`)
//! holds one statement that may be run again: it is run between two transactions that look whether it is still wanted. The
//! platform team's own files run as a login of their own: `own`.

use super::{
    Database, EpochFence, PgError, PgErrorKind, Script, done_before, sqlstate,
    tenant::{check_marks, hold, text_array},
};
use crate::{
    domain::{
        class::ErrorClass,
        ident::{DatabaseId, Incarnation},
        migrations::Track,
        sql::{quote_ident, quote_literal},
    },
    plan::{
        observed::{RowState, applied::render_failure},
        step::Migrate,
    },
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

const STEP: &str = "migrating the tenant";

/// Longest message of a failure that is kept, in characters.
const MAX_MESSAGE: usize = 300;

/// An index that CREATE INDEX CONCURRENTLY left behind when it failed: `IF NOT EXISTS` would take it for the real one.
const DROP_INVALID: &str = "DECLARE broken regclass;
BEGIN
    FOR broken IN SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
        WHERE NOT i.indisvalid AND k.relnamespace = to_regnamespace(quote_ident($schema)) LOOP
        EXECUTE format('DROP INDEX %s', broken);
    END LOOP;
END";

/// Tenants whose migration is under way in this process: one that takes longer than its pass is not begun a second time.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashSet<Incarnation>>>);

struct Turn(UnderWay, Incarnation);

impl UnderWay {
    fn begin(&self, incarnation: Incarnation) -> Result<Turn, PgError> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(incarnation);
        let busy = || PgError::interrupted(STEP, "a migration of this tenant is still under way");
        free.then(|| Turn(self.clone(), incarnation)).ok_or_else(busy)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Database {
    /// Applies a file. All or nothing, where the file is transactional; what was applied before is no error.
    ///
    /// # Errors
    /// [`PgErrorKind::FileFailed`] if the server refused the file, which is noted then; `Conflict` if the row changed hands
    /// or a mark is foreign; `Transient` if the schema has another version by now, or was busy for too long.
    pub async fn perform_migrate(
        &self,
        step: &Migrate,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let _turn = self.migrating.begin(step.row.incarnation)?;
        let result = match (step.track, step.file.is_transactional()) {
            (Track::Base, true) => self.migrate_within(step, database_id, fence).await,
            (Track::Base, false) => self.migrate_outside(step, database_id, fence).await,
            (Track::Custom, _) => self.migrate_own(step, database_id, fence).await,
        };
        match done_before(result) {
            Err(error) if is_files_fault(&error) => {
                let message: String = error.note.chars().take(MAX_MESSAGE).collect();
                self.note_failure(step, &message, fence).await?;
                let note = render_failure(step.track, &step.file.name, &message);
                // The next look finds it in the ledger, and says what follows from it.
                Err(PgError { class: ErrorClass::Transient, kind: PgErrorKind::FileFailed, note, ..error })
            }
            result => result,
        }
    }

    async fn migrate_within(&self, step: &Migrate, database_id: DatabaseId, fence: &EpochFence) -> Result<(), PgError> {
        let (step, fence, seconds) = (step.clone(), fence.clone(), self.settings.migration_timeout_seconds);
        let write = move |script: &mut Script| {
            enter(script, &step, database_id, &fence)?;
            advance(script, &step, &fence)?;
            script.as_owner(step.row.cell)?;
            script.add(&format!("SET LOCAL statement_timeout = '{seconds}s';"));
            script.add(&format!("SET LOCAL search_path = {};", quote_ident(&step.row.schema)?));
            script.add(&step.file.sql);
            script.add("SET LOCAL search_path = pg_catalog, pg_temp;");
            write_grants(script, &step, &step.row.schema)
        };
        self.change_slowly(STEP, write).await.map(drop)
    }

    async fn migrate_outside(
        &self,
        step: &Migrate,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, fence_before) = (step.clone(), fence.clone());
        let before = move |script: &mut Script| {
            enter(script, &wanted, database_id, &fence_before)?;
            check_version(script, &wanted)?;
            script.as_owner(wanted.row.cell)?;
            let body = DROP_INVALID.replace("$schema", &quote_literal(&wanted.row.schema)?);
            script.add(&format!("DO {};", quote_literal(&body)?));
            Ok(())
        };
        self.change(STEP, before).await?;
        let (wanted, seconds) = (step.clone(), self.settings.migration_timeout_seconds);
        let alone = move |script: &mut Script| {
            script.as_owner_from_now_on(wanted.row.cell)?;
            script.add(&format!("SET statement_timeout = '{seconds}s';"));
            script.add(&format!("SET search_path = {};", quote_ident(&wanted.row.schema)?));
            Ok(())
        };
        self.run_alone(STEP, alone, step.file.sql.clone().into_owned()).await?;
        let (wanted, fence) = (step.clone(), fence.clone());
        let after = move |script: &mut Script| {
            enter(script, &wanted, database_id, &fence)?;
            advance(script, &wanted, &fence)?;
            script.as_owner(wanted.row.cell)?;
            write_grants(script, &wanted, &wanted.row.schema)
        };
        self.change(STEP, after).await.map(drop)
    }

    async fn note_failure(&self, step: &Migrate, message: &str, fence: &EpochFence) -> Result<(), PgError> {
        let (step, message, fence) = (step.clone(), message.to_owned(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &step.row, &[RowState::Active, RowState::Suspended])?;
            check_version(script, &step)?;
            let (incarnation, track) = (step.row.incarnation.to_string(), step.track.as_str());
            let (checksum, version) = (step.file.checksum(), step.file.version);
            let [incarnation, track, checksum, request, message] =
                [incarnation.as_str(), track, &checksum, &step.request, &message].map(quote_literal);
            script.add(&format!(
                "SELECT agent_tenancy.note_failure({}, {}, {version}, {}, {}, {});",
                incarnation?, track?, checksum?, request?, message?
            ));
            Ok(())
        };
        done_before(self.change("noting a failed migration", write).await.map(drop))
    }
}

/// Whether the server refused what the file says: anything but what goes away by itself, or what is ours. A unique
/// violation is data that does not fit, and a statement that took too long would take as long again.
fn is_files_fault(error: &PgError) -> bool {
    let code = error.code();
    let passing =
        error.class == ErrorClass::Transient && !matches!(code, sqlstate::UNIQUE_VIOLATION | sqlstate::CANCELED);
    error.kind == PgErrorKind::Refused && !code.is_empty() && !code.starts_with("AT") && !passing
}

/// As base: fence, row, marks.
pub(super) fn enter(
    script: &mut Script,
    step: &Migrate,
    database_id: DatabaseId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    script.fenced(fence)?;
    hold(script, &step.row, &[RowState::Active, RowState::Suspended])?;
    check_marks(script, &step.row, database_id, true)
}

/// As base: the version before the file's is still the one that the row has.
pub(super) fn check_version(script: &mut Script, step: &Migrate) -> Result<(), PgError> {
    let (incarnation, track) = (quote_literal(&step.row.incarnation.to_string())?, quote_literal(step.track.as_str())?);
    script.add(&format!("SELECT agent_tenancy.check_version({incarnation}, {track}, {});", step.file.version - 1));
    Ok(())
}

/// As base: the row has the file's version from now on.
pub(super) fn advance(script: &mut Script, step: &Migrate, fence: &EpochFence) -> Result<(), PgError> {
    let (incarnation, track) = (quote_literal(&step.row.incarnation.to_string())?, quote_literal(step.track.as_str())?);
    let (version, checksums) = (step.file.version, text_array(&step.checksums)?);
    script.add(&format!(
        "SELECT agent_tenancy.advance({incarnation}, {track}, {}, {version}, {checksums}, {});",
        version - 1,
        fence.epoch
    ));
    Ok(())
}

/// As the owner of the tables: what the file lets the tenant's role do.
pub(super) fn write_grants(script: &mut Script, step: &Migrate, schema: &str) -> Result<(), PgError> {
    for statement in render_grants(step, schema)? {
        script.add(&statement);
    }
    Ok(())
}

pub(super) fn render_grants(step: &Migrate, schema: &str) -> Result<Vec<String>, PgError> {
    let (schema, role) = (quote_ident(schema)?, quote_ident(&step.row.role)?);
    let mut statements = Vec::new();
    for grant in step.file.grants()? {
        let table = quote_ident(&grant.table)?;
        statements.push(format!("GRANT {} ON {schema}.{table} TO {role};", grant.privileges.join(", ")));
    }
    Ok(statements)
}
