//! Applying one custom migration file to one tenant. The file may contain any SQL, so it runs without the operator's
//! privileges: in a session that logged in as a role of this tenant, which may create objects in one separate schema and has
//! no other privilege. The session can't switch back to another role, because it never had one.
//!
//! The login is enabled for one file, with a random password and an expiry time. The transaction of the file records in the
//! table `applied_migrations` of that schema that the file was applied, so a lost reply does not run it twice. The ledger is
//! updated afterwards.

use super::{
    Script, SqlContext,
    objects::write_keeper,
    statements::{RenderError, literals},
    version::{advance, check_version, enter, render_grants},
};
use crate::{
    domain::{
        custom_migrations::own_name,
        keys::KeyBytes,
        sql::{quote_ident, quote_literal},
    },
    plan::{observed::render_mark, step::Migrate},
    settings::database::InstanceSettings,
};

/// Name of the step in errors.
pub(super) const NAME: &str = "applying a custom migration";

/// As owner: creates the role and the schema with the mark of the data. They may be missing only before the first file
/// (`$first`).
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

/// As owner: disables the login, and terminates its sessions.
const LOCK: &str = "BEGIN
    IF to_regrole(quote_ident($name)) IS NULL THEN RETURN; END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', $name);
    IF EXISTS (SELECT FROM pg_stat_activity a WHERE a.usename = $name) THEN
        EXECUTE format('GRANT %I TO %I', $name, current_user) || $inherit;
        PERFORM pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.usename = $name;
        EXECUTE format('REVOKE %I FROM %I', $name, current_user);
    END IF;
END";

/// The session that applies a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Name of the login and of its schema.
    pub(crate) login: String,
    /// Password of the login. A dry run does not show it.
    pub(crate) password: KeyBytes,
    /// Creates the table of applied files, and returns whether this file is in it.
    pub(crate) ask: String,
    /// The text that a dry run shows. For a transactional file it is the message that is sent.
    pub(crate) text: String,
    /// The messages that apply the file, in order.
    pub(crate) messages: Vec<String>,
    /// The file, which is a part of the messages: errors name its lines.
    pub(crate) file: String,
}

/// Seconds after which the session is ended: the timeout of one statement, and some time for the connection.
pub(crate) fn session_seconds(settings: &InstanceSettings) -> u64 {
    u64::from(settings.migration_timeout_seconds) + 30
}

pub(super) fn render_custom(file: &Migrate, context: &SqlContext<'_>) -> Result<Script, RenderError> {
    Ok(Script::Session {
        open: render_open(file, context)?,
        session: render_session(file, context)?,
        close: render_end(file, true, context)?,
        abandon: render_end(file, false, context)?,
    })
}

/// Creates the missing role and schema, and enables the login until the session has to end.
fn render_open(file: &Migrate, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = enter(file, context)?;
    check_version(&mut sql, file)?;
    let (cell, name) = (file.row.cell, own_name(&file.row.schema));
    let group = format!("{}_mig_{cell}", sql.prefix());
    sql.add(&format!("SELECT agent_tenancy.make_connectors({cell}, {});", literals([&group])?));
    sql.as_owner(cell)?;
    let mark = render_mark(context.database_id, file.row.incarnation);
    let body = MAKE
        .replace("$name", &quote_literal(&name)?)
        .replace("$mark", &quote_literal(&mark)?)
        .replace("$tenant", &quote_literal(&file.row.role)?)
        .replace("$first", if file.file.version == 1 { "true" } else { "false" });
    sql.add_block(&body)?;
    write_keeper(&mut sql, &name)?;
    sql.as_base()?;
    let options = if context.server.has_membership_options() { " WITH INHERIT TRUE, SET FALSE" } else { "" };
    sql.add(&format!("GRANT {} TO {}{options};", quote_ident(&group)?, quote_ident(&name)?));
    sql.as_owner(cell)?;
    sql.add_block(&format!(
        "BEGIN EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L VALID UNTIL %L', {}, {}, \
         now() + make_interval(secs => {})); END",
        quote_literal(&name)?,
        quote_literal(context.verifier)?,
        session_seconds(context.settings)
    ))?;
    Ok(sql.into_text())
}

/// Disables the login; if `applied`, records the file in the ledger.
fn render_end(file: &Migrate, applied: bool, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = enter(file, context)?;
    if applied {
        advance(&mut sql, file, context)?;
    }
    sql.as_owner(file.row.cell)?;
    let name = quote_literal(&own_name(&file.row.schema))?;
    let inherit = if context.server.has_membership_options() { "' WITH INHERIT TRUE'" } else { "''" };
    sql.add_block(&LOCK.replace("$name", &name).replace("$inherit", inherit))?;
    Ok(sql.into_text())
}

fn render_session(file: &Migrate, context: &SqlContext<'_>) -> Result<Session, RenderError> {
    let (login, password, file_text) =
        (own_name(&file.row.schema), file.password.clone(), file.file.sql.clone().into_owned());
    let schema = quote_ident(&login)?;
    let (lock_seconds, seconds) = (context.settings.lock_timeout_seconds, context.settings.migration_timeout_seconds);
    let record = render_record(file, &login)?;
    let ask = format!(
        "CREATE TABLE IF NOT EXISTS {schema}.applied_migrations (version integer PRIMARY KEY, name text NOT NULL, \
         checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());\n\
         SELECT EXISTS (SELECT FROM {schema}.applied_migrations a WHERE a.version = {});",
        file.file.version
    );
    if file.file.is_transactional() {
        // A line break ends a comment at the end of the file.
        let text = format!(
            "BEGIN; SET LOCAL lock_timeout = '{lock_seconds}s'; SET LOCAL statement_timeout = '{seconds}s'; \
             SET LOCAL search_path = {schema}, pg_temp;\n{file_text}\n;\n{record}\nCOMMIT;"
        );
        return Ok(Session { login, password, ask, messages: vec![text.clone()], text, file: file_text });
    }
    let settings = format!(
        "SET lock_timeout = '{lock_seconds}s'; SET statement_timeout = '{seconds}s'; SET search_path = {schema}, pg_temp;"
    );
    let drop_invalid = format!(
        "DO $$ DECLARE broken regclass; BEGIN FOR broken IN SELECT i.indexrelid::regclass FROM pg_index i \
         JOIN pg_class k ON k.oid = i.indexrelid WHERE NOT i.indisvalid AND k.relnamespace = {}::regnamespace LOOP \
         EXECUTE format('DROP INDEX %s', broken); END LOOP; END $$;",
        quote_literal(&schema)?
    );
    let text = format!("{file_text}\n;\n{record}");
    let messages = vec![settings, drop_invalid, file_text.clone(), record];
    Ok(Session { login, password, ask, text, messages, file: file_text })
}

/// Records in the schema that the file was applied, and grants the tenant's role its privileges.
fn render_record(file: &Migrate, name: &str) -> Result<String, RenderError> {
    let (schema, named) = (quote_ident(name)?, literals([file.file.name.as_ref(), &file.file.checksum()])?);
    let (version, grants) = (file.file.version, render_grants(file, name)?.join("\n"));
    Ok(format!(
        "INSERT INTO {schema}.applied_migrations (version, name, checksum) VALUES ({version}, {named});\n{grants}"
    ))
}
