//! Suspending, resuming and revoking the agent API's access to a tenant. Each is idempotent.

use super::{
    SqlContext,
    ledger::{hold, set_state},
    objects::{Names, write_custom_usage, write_membership, write_out_of_reach, write_privileges},
    statements::{RenderError, Statements},
};
use crate::plan::observed::{LedgerRow, RowState};

/// Suspends access: no new transaction of the tenant can start.
pub(super) fn render_suspension(row: &LedgerRow, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Active, RowState::Suspended])?;
    set_state(&mut sql, row, RowState::Suspended, context)?;
    sql.as_owner(row.cell)?;
    write_out_of_reach(&mut sql, row)?;
    Ok(sql.into_text())
}

/// Resumes access.
pub(super) fn render_resumption(row: &LedgerRow, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Active, RowState::Suspended])?;
    set_state(&mut sql, row, RowState::Active, context)?;
    sql.as_owner(row.cell)?;
    let names = Names { schema: &row.schema, role: &row.role };
    write_privileges(&mut sql, names, row.schema_version)?;
    write_custom_usage(&mut sql, &row.schema, &row.role)?;
    write_membership(&mut sql, row.cell, &row.role)?;
    Ok(sql.into_text())
}

/// Revokes access because the tenant is deleted: no new transaction of the tenant can start.
pub(super) fn render_revocation(row: &LedgerRow, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Active, RowState::Suspended, RowState::Deleting])?;
    set_state(&mut sql, row, RowState::Deleting, context)?;
    sql.as_owner(row.cell)?;
    write_out_of_reach(&mut sql, row)?;
    Ok(sql.into_text())
}
