//! Applying one migration file to one tenant. A transactional file and its ledger record are one transaction. A
//! non-transactional file (`-- no-transaction`) has one repeatable statement, which runs between two transactions that check
//! whether it is still wanted. Custom migrations are rendered by `custom`.

use super::{
    Script, SqlContext,
    custom::{self, render_custom},
    ledger::hold,
    statements::{RenderError, Statements},
    version::{advance, check_version, enter, render_grants},
};
use crate::{
    domain::{
        migrations::Track,
        sql::{quote_ident, quote_literal},
    },
    plan::{observed::RowState, step::Migrate},
};

/// Drops the invalid indexes that a failed CREATE INDEX CONCURRENTLY leaves behind: `IF NOT EXISTS` would accept them.
const DROP_INVALID: &str = "DECLARE broken regclass;
BEGIN
    FOR broken IN SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
        WHERE NOT i.indisvalid AND k.relnamespace = to_regnamespace(quote_ident($schema)) LOOP
        EXECUTE format('DROP INDEX %s', broken);
    END LOOP;
END";

/// Name of the step in errors.
pub(super) fn name(track: Track) -> &'static str {
    match track {
        Track::Base => "migrating the tenant",
        Track::Custom => custom::NAME,
    }
}

pub(super) fn render_migration(file: &Migrate, context: &SqlContext<'_>) -> Result<Script, RenderError> {
    match (file.track, file.file.is_transactional()) {
        (Track::Base, true) => Ok(Script::LongTransaction(render_within(file, context)?)),
        (Track::Base, false) => render_outside(file, context),
        (Track::Custom, _) => render_custom(file, context),
    }
}

fn render_within(file: &Migrate, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = enter(file, context)?;
    advance(&mut sql, file, context)?;
    sql.as_owner(file.row.cell)?;
    sql.add(&format!("SET LOCAL statement_timeout = '{}s';", context.settings.migration_timeout_seconds));
    sql.add(&format!("SET LOCAL search_path = {};", quote_ident(&file.row.schema)?));
    sql.add(&file.file.sql);
    sql.add("SET LOCAL search_path = pg_catalog, pg_temp;");
    write_grants(&mut sql, file, &file.row.schema)?;
    Ok(sql.into_text())
}

fn render_outside(file: &Migrate, context: &SqlContext<'_>) -> Result<Script, RenderError> {
    let mut before = enter(file, context)?;
    check_version(&mut before, file)?;
    before.as_owner(file.row.cell)?;
    before.add_block(&DROP_INVALID.replace("$schema", &quote_literal(&file.row.schema)?))?;
    let mut prepare = Statements::new_alone(context.server, context.settings);
    prepare.as_owner_from_now_on(file.row.cell)?;
    prepare.add(&format!("SET statement_timeout = '{}s';", context.settings.migration_timeout_seconds));
    prepare.add(&format!("SET search_path = {};", quote_ident(&file.row.schema)?));
    let mut after = enter(file, context)?;
    advance(&mut after, file, context)?;
    after.as_owner(file.row.cell)?;
    write_grants(&mut after, file, &file.row.schema)?;
    Ok(Script::Outside {
        before: before.into_text(),
        prepare: prepare.into_text(),
        statement: file.file.sql.clone().into_owned(),
        after: after.into_text(),
    })
}

/// Records in the ledger that the server refused the file.
pub(crate) fn render_failure_record(
    file: &Migrate,
    message: &str,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, &file.row, &[RowState::Active, RowState::Suspended])?;
    check_version(&mut sql, file)?;
    let (incarnation, track) = (file.row.incarnation.to_string(), file.track.as_str());
    let (checksum, version) = (file.file.checksum(), file.file.version);
    let [incarnation, track, checksum, request, message] =
        [incarnation.as_str(), track, &checksum, &file.request, message].map(quote_literal);
    sql.add(&format!(
        "SELECT agent_tenancy.note_failure({}, {}, {version}, {}, {}, {});",
        incarnation?, track?, checksum?, request?, message?
    ));
    Ok(sql.into_text())
}

fn write_grants(sql: &mut Statements, file: &Migrate, schema: &str) -> Result<(), RenderError> {
    for statement in render_grants(file, schema)? {
        sql.add(&statement);
    }
    Ok(())
}
