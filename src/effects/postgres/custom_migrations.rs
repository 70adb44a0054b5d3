//! The platform team's own migrations of one tenant. They can say anything, so they get nowhere near the operator's rights:
//! they run in a session that logged in as a role of this tenant alone, which may make things in one schema of its own and
//! has no other right. Nothing leads back from there: there is no other role that the session was before.
//!
//! The login exists for the time of one file: with a password that was drawn for it, and an end. The file notes in its own
//! transaction that it was applied, in the table `applied_migrations` beside its own tables, so that a lost reply does not
//! run it twice; the ledger follows.

use super::{
    Database, EpochFence, PgError, PgErrorKind, Script,
    migrate::{advance, check_version, enter, render_grants},
    script::literals,
    sqlstate,
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::DatabaseId,
        scram::render_verifier,
        sql::{quote_ident, quote_literal},
    },
    plan::{observed::render_mark, step::Migrate},
};
use aws_lc_rs::rand;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgErrorPosition};
use std::time::Duration;
use tokio::time::timeout;

const STEP: &str = "applying your own migration";

/// As the cell's owner role: role and schema, where they are missing. `$first`: nothing was applied yet, so that they may be
/// missing. Both carry the mark of the data.
const MAKE: &str = "DECLARE
    role_id oid := to_regrole(quote_ident($name));
    schema_id oid := to_regnamespace(quote_ident($name));
BEGIN
    IF NOT $first AND (role_id IS NULL OR schema_id IS NULL) THEN
        RAISE EXCEPTION 'role or schema % is gone', $name USING ERRCODE = 'ATC04';
    END IF;
    IF shobj_description(role_id, 'pg_authid') <> $mark OR obj_description(schema_id, 'pg_namespace') <> $mark THEN
        RAISE EXCEPTION 'role or schema % carries a foreign mark', $name USING ERRCODE = 'ATC02';
    END IF;
    IF role_id IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN INHERIT', $name);
        EXECUTE format('COMMENT ON ROLE %I IS %L', $name, $mark);
    END IF;
    IF schema_id IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', $name);
        EXECUTE format('COMMENT ON SCHEMA %I IS %L', $name, $mark);
    END IF;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', $name, $name);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', $name, $tenant);
END";

/// As the cell's owner role: nobody logs in as it any more, and who did is out.
const LOCK: &str = "BEGIN
    IF to_regrole(quote_ident($name)) IS NULL THEN RETURN; END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', $name);
    IF EXISTS (SELECT FROM pg_stat_activity a WHERE a.usename = $name) THEN
        EXECUTE format('GRANT %I TO %I', $name, current_user) || $inherit;
        PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.usename = $name;
        EXECUTE format('REVOKE %I FROM %I', $name, current_user);
    END IF;
END";

impl Database {
    /// Applies one of the platform team's own files, see `perform_migrate`.
    pub(super) async fn migrate_own(
        &self,
        step: &Migrate,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        self.open_login(step, database_id, fence).await?;
        let applied = self.apply_own(step).await;
        let (wanted, fence) = (step.clone(), fence.clone());
        let done = applied.is_ok();
        let close = move |script: &mut Script| {
            enter(script, &wanted, database_id, &fence)?;
            if done {
                advance(script, &wanted, &fence)?;
            }
            script.as_owner(wanted.row.cell)?;
            let name = quote_literal(&own_name(&wanted.row.schema))?;
            let inherit = if script.server().version >= 160_000 { "' WITH INHERIT TRUE'" } else { "''" };
            let body = LOCK.replace("$name", &name).replace("$inherit", inherit);
            script.add(&format!("DO {};", quote_literal(&body)?));
            Ok(())
        };
        let closed = self.change(STEP, close).await.map(drop);
        applied.and(closed)
    }

    /// Makes role and schema where they are missing, and lets the role log in for as long as a file may take.
    async fn open_login(&self, step: &Migrate, database_id: DatabaseId, fence: &EpochFence) -> Result<(), PgError> {
        let mut salt = [0_u8; 16];
        rand::fill(&mut salt).map_err(|_| PgError::bug(STEP, "the machine gives no randomness"))?;
        let password = step.password.clone();
        let verifier = tokio::task::spawn_blocking(move || render_verifier(password.expose(), &salt))
            .await
            .map_err(|_| PgError::bug(STEP, "computing the verifier ended early"))??;
        let (step, fence, seconds) = (step.clone(), fence.clone(), self.patience().as_secs());
        let write = move |script: &mut Script| {
            enter(script, &step, database_id, &fence)?;
            check_version(script, &step)?;
            let (cell, name) = (step.row.cell, own_name(&step.row.schema));
            let group = format!("{}_mig_{cell}", script.prefix());
            script.add(&format!("SELECT agent_tenancy.make_connectors({cell}, {});", literals([&group])?));
            script.as_owner(cell)?;
            let mark = render_mark(database_id, step.row.incarnation);
            let body = MAKE
                .replace("$name", &quote_literal(&name)?)
                .replace("$mark", &quote_literal(&mark)?)
                .replace("$tenant", &quote_literal(&step.row.role)?)
                .replace("$first", if step.file.version == 1 { "true" } else { "false" });
            script.add(&format!("DO {};", quote_literal(&body)?));
            script.as_base()?;
            let options = if script.server().version >= 160_000 { " WITH INHERIT TRUE, SET FALSE" } else { "" };
            script.add(&format!("GRANT {} TO {}{options};", quote_ident(&group)?, quote_ident(&name)?));
            script.as_owner(cell)?;
            let open = format!(
                "BEGIN EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L VALID UNTIL %L', {}, {}, \
                 now() + make_interval(secs => {seconds})); END",
                quote_literal(&name)?,
                quote_literal(&verifier)?
            );
            script.add(&format!("DO {};", quote_literal(&open)?));
            Ok(())
        };
        self.change(STEP, write).await.map(drop)
    }

    /// How long a file may take in all: as long as its longest statement may, and a little for the way.
    fn patience(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.migration_timeout_seconds) + 30)
    }

    async fn apply_own(&self, step: &Migrate) -> Result<(), PgError> {
        let name = own_name(&step.row.schema);
        let text = self.render_own(step, &name)?;
        if let Some(unsent) = &self.unsent {
            unsent.keep(&format!(
                "-- in a session of the login {name}, which may make things in schema {name} alone:\n{text}"
            ));
            return Ok(());
        }
        let mut connection = self.pool.connect_as(STEP, &name, step.password.expose()).await?;
        let done = timeout(self.patience(), self.apply_with(&mut connection, step, &name, text)).await;
        if let Ok(Ok(())) = done {
            // What it did is committed; how it parts is no matter.
            drop(timeout(Duration::from_secs(1), connection.close()).await);
            return Ok(());
        }
        // Else it is dropped, which ends it in the middle of a statement too.
        done.unwrap_or_else(|_| Err(PgError::interrupted(STEP, "the server did not answer in time")))
    }

    async fn apply_with(
        &self,
        connection: &mut PgConnection,
        step: &Migrate,
        name: &str,
        text: String,
    ) -> Result<(), PgError> {
        let schema = quote_ident(name)?;
        let before = format!(
            "CREATE TABLE IF NOT EXISTS {schema}.applied_migrations (version integer PRIMARY KEY, name text NOT NULL, \
             checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());\n\
             SELECT EXISTS (SELECT FROM {schema}.applied_migrations a WHERE a.version = {});",
            step.file.version
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(before)).fetch_all(&mut *connection).await;
        let rows = rows.map_err(|error| PgError::from_sqlx(STEP, &error, true))?;
        if rows.last().is_some_and(|row| row.try_get(0).unwrap_or_default()) {
            return Ok(());
        }
        if step.file.is_transactional() {
            return send(connection, step, text).await;
        }
        let settings = format!(
            "SET lock_timeout = '{}s'; SET statement_timeout = '{}s'; SET search_path = {schema}, pg_temp;",
            self.settings.lock_timeout_seconds, self.settings.migration_timeout_seconds
        );
        send(connection, step, settings).await?;
        let broken = format!(
            "DO $$ DECLARE broken regclass; BEGIN FOR broken IN SELECT i.indexrelid::regclass FROM pg_index i \
             JOIN pg_class k ON k.oid = i.indexrelid WHERE NOT i.indisvalid AND k.relnamespace = {}::regnamespace LOOP \
             EXECUTE format('DROP INDEX %s', broken); END LOOP; END $$;",
            quote_literal(&schema)?
        );
        send(connection, step, broken).await?;
        send(connection, step, step.file.sql.clone().into_owned()).await?;
        send(connection, step, self.render_record(step, name)?).await
    }

    /// What is sent for a file, as one message that is one transaction.
    fn render_own(&self, step: &Migrate, name: &str) -> Result<String, PgError> {
        let record = self.render_record(step, name)?;
        let settings = format!(
            "SET LOCAL lock_timeout = '{}s'; SET LOCAL statement_timeout = '{}s'; SET LOCAL search_path = {}, pg_temp;",
            self.settings.lock_timeout_seconds,
            self.settings.migration_timeout_seconds,
            quote_ident(name)?
        );
        Ok(match step.file.is_transactional() {
            // The file stands on lines of its own, so that a comment at its end comments out nothing else.
            true => format!("BEGIN; {settings}\n{}\n;\n{record}\nCOMMIT;", step.file.sql),
            false => format!("{}\n;\n{record}", step.file.sql),
        })
    }

    fn render_record(&self, step: &Migrate, name: &str) -> Result<String, PgError> {
        let (schema, file) = (quote_ident(name)?, literals([step.file.name.as_ref(), &step.file.checksum()])?);
        let grants = render_grants(step, name)?.join("\n");
        let version = step.file.version;
        Ok(format!(
            "INSERT INTO {schema}.applied_migrations (version, name, checksum) VALUES ({version}, {file});\n{grants}"
        ))
    }
}

/// Sends statements that a file is part of; tells what the server refuses with the line of the file.
async fn send(connection: &mut PgConnection, step: &Migrate, text: String) -> Result<(), PgError> {
    let sent = sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(&mut *connection).await;
    sent.map(drop).map_err(|error| match &error {
        sqlx::Error::Database(refusal) => {
            let told = PgError::from_sqlx(STEP, &error, true);
            let server = refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
            let at = server.and_then(|s| match s.position() {
                Some(PgErrorPosition::Original(at)) => find_line(&text, &step.file.sql, at),
                Some(PgErrorPosition::Internal { .. }) | None => None,
            });
            let line = at.map(|line| format!("line {line}: ")).unwrap_or_default();
            // Values of rows stand in the messages of data that does not fit: for the server's log alone.
            let said = match told.code() {
                code if code.starts_with("22") => "a value does not fit; the server's log has it".to_owned(),
                _ => refusal.message().to_owned(),
            };
            // Its own connection is no reason to think the database out of reach.
            let kind = if told.code() == sqlstate::SYNTAX_ERROR { PgErrorKind::Refused } else { told.kind };
            PgError { note: format!("{line}{said} (SQLSTATE {})", told.code()), kind, ..told }
        }
        _ => PgError::from_sqlx(STEP, &error, true),
    })
}

/// The line of the file that a position in the message belongs to, both from 1; positions count characters.
fn find_line(text: &str, file: &str, position: usize) -> Option<usize> {
    let start = text.find(file)?;
    let at = text.char_indices().nth(position.checked_sub(1)?).map(|(at, _)| at)?;
    let within = text.get(start..at)?;
    (within.len() <= file.len()).then(|| within.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_told_as_a_line_of_the_file() {
        let file = "-- ä\nCREATE TABLE a ();\nCREATE TABEL b ();\n";
        let text = format!("BEGIN;\n{file}\n;COMMIT;");
        let position =
            text.chars().position(|c| c == 'T').map(|_| text.split("TABEL").next().unwrap().chars().count() + 1);
        assert_eq!(find_line(&text, file, position.unwrap()), Some(3));
        assert_eq!(find_line(&text, file, 1), None);
        assert_eq!(find_line(&text, file, text.chars().count()), None);
        assert_eq!(find_line(&text, "another", 9), None);
    }
}
