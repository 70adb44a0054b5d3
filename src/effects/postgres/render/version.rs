//! Statements that every migration file needs: the checks before it, the version in the ledger, and the grants.

use super::{
    SqlContext,
    ledger::{check_row_marks, hold},
    statements::{RenderError, Statements, text_array},
};
use crate::{
    domain::sql::{quote_ident, quote_literal},
    plan::{observed::RowState, step::Migrate},
};

/// Starts with the checks of leader, row and marks.
pub(super) fn enter(file: &Migrate, context: &SqlContext<'_>) -> Result<Statements, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, &file.row, &[RowState::Active, RowState::Suspended])?;
    check_row_marks(&mut sql, &file.row, true, context)?;
    Ok(sql)
}

/// As base: fails unless the row has the version before that of the file.
pub(super) fn check_version(sql: &mut Statements, file: &Migrate) -> Result<(), RenderError> {
    let (incarnation, track) = (quote_literal(&file.row.incarnation.to_string())?, quote_literal(file.track.as_str())?);
    sql.add(&format!("SELECT agent_tenancy.check_version({incarnation}, {track}, {});", file.file.version - 1));
    Ok(())
}

/// As base: sets the version of the row to that of the file.
pub(super) fn advance(sql: &mut Statements, file: &Migrate, context: &SqlContext<'_>) -> Result<(), RenderError> {
    let (incarnation, track) = (quote_literal(&file.row.incarnation.to_string())?, quote_literal(file.track.as_str())?);
    let (version, checksums) = (file.file.version, text_array(&file.checksums)?);
    sql.add(&format!(
        "SELECT agent_tenancy.advance({incarnation}, {track}, {}, {version}, {checksums}, {});",
        version - 1,
        context.fence.epoch
    ));
    Ok(())
}

/// The grants of the file to the tenant's role.
pub(super) fn render_grants(file: &Migrate, schema: &str) -> Result<Vec<String>, RenderError> {
    let (schema, role) = (quote_ident(schema)?, quote_ident(&file.row.role)?);
    let mut statements = Vec::new();
    for grant in file.file.grants()? {
        let table = quote_ident(&grant.table)?;
        statements.push(format!("GRANT {} ON {schema}.{table} TO {role};", grant.privileges.join(", ")));
    }
    Ok(statements)
}
