//! Closing a tenant: keep, archive or drop its objects, and leave a tombstone.

use super::{
    SqlContext,
    ledger::{check_own_marks, check_row_marks, hold, render_tenant, render_tombstone, set_state},
    objects::{Names, check_dependents, drop_objects, rename_objects, write_out_of_reach},
    statements::{RenderError, Statements, literals},
};
use crate::{
    api::DeletionPolicy,
    domain::{custom_migrations::own_name, ident::ObjectId},
    plan::{
        observed::{LedgerRow, RowState},
        step::CloseDatabase,
    },
};

/// One transaction. `Retain` keeps the objects and revokes access. `Archive` also renames them, which frees the tenant id.
/// `Delete` drops schema and role. Without a row it only writes a tombstone, which may replace an earlier one: a delayed
/// step of this Tenant then finds the id closed. Missing objects are no error.
pub(super) fn render_close(
    close: &CloseDatabase,
    tenant: &ObjectId,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    match (&close.row, close.policy) {
        (None, _) => write_tombstone(&mut sql, close, tenant, context)?,
        (Some(row), _) if row.cell.0 == 0 => hold(&mut sql, row, &[RowState::Dropped])?,
        (Some(row), DeletionPolicy::Retain) => write_retain(&mut sql, row, context)?,
        (Some(row), DeletionPolicy::Archive) => write_archive(&mut sql, row, close.archive_seconds, context)?,
        (Some(row), DeletionPolicy::Delete) => write_drop(&mut sql, row, context)?,
    }
    Ok(sql.into_text())
}

fn write_tombstone(
    sql: &mut Statements,
    close: &CloseDatabase,
    tenant: &ObjectId,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    let name = close.tenant_id.database_name(sql.prefix());
    let id = literals([close.tenant_id.as_str(), &close.incarnation.to_string()])?;
    let (replaces, tenant) = (render_tombstone(close.replaces)?, render_tenant(tenant, context)?);
    let (epoch, name) = (context.fence.epoch, literals([&name])?);
    sql.add(&format!("SELECT agent_tenancy.bury({id}, {replaces}, {tenant}, {epoch}, {name});"));
    Ok(())
}

fn write_retain(sql: &mut Statements, row: &LedgerRow, context: &SqlContext<'_>) -> Result<(), RenderError> {
    hold(sql, row, &[RowState::Active, RowState::Suspended, RowState::Deleting, RowState::Retained])?;
    set_state(sql, row, RowState::Retained, context)?;
    sql.as_owner(row.cell)?;
    write_out_of_reach(sql, row)
}

/// Renames the role and the schema, if they exist. The archive gets its row even if one of them is missing, so that the
/// other is dropped when the archive expires.
fn write_archive(
    sql: &mut Statements,
    row: &LedgerRow,
    keep_seconds: i64,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    hold(sql, row, &RowState::ALL)?;
    let [schema, role] = [&row.schema, &row.role].map(|name| row.incarnation.archive_name(name));
    let entered = literals([&row.incarnation.to_string(), &schema, &role])?;
    sql.add(&format!("SELECT agent_tenancy.archive({entered}, {keep_seconds}, {});", context.fence.epoch));
    check_row_marks(sql, row, false, context)?;
    check_own_marks(sql, row, context)?;
    sql.as_owner(row.cell)?;
    write_out_of_reach(sql, row)?;
    let archived_own = row.incarnation.archived_own_name(&row.schema);
    rename_objects(sql, Names::both(&own_name(&row.schema)), Names::both(&archived_own))?;
    let names = Names { schema: &row.schema, role: &row.role };
    rename_objects(sql, names, Names { schema: &schema, role: &role })
}

fn write_drop(sql: &mut Statements, row: &LedgerRow, context: &SqlContext<'_>) -> Result<(), RenderError> {
    hold(sql, row, &RowState::ALL)?;
    check_row_marks(sql, row, false, context)?;
    check_own_marks(sql, row, context)?;
    let own = own_name(&row.schema);
    check_dependents(sql, &row.schema, &own)?;
    set_state(sql, row, RowState::Dropped, context)?;
    drop_objects(sql, row.cell, Names::both(&own))?;
    drop_objects(sql, row.cell, Names { schema: &row.schema, role: &row.role })
}
