//! Repairing the drift of a tenant in use.

use super::{
    SqlContext,
    ledger::{check_row_marks, hold},
    statements::{RenderError, Statements},
};
use crate::{
    domain::cells::CellRoles,
    plan::{
        drift::{Drift, RepairNames},
        observed::{LedgerRow, render_mark},
    },
};

/// One transaction. Never creates a role, schema or table. Leaves alone what was repaired meanwhile.
pub(super) fn render_repair(row: &LedgerRow, found: &[Drift], context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[row.state])?;
    check_row_marks(&mut sql, row, true, context)?;
    sql.as_owner(row.cell)?;
    let roles = CellRoles::of(sql.prefix(), row.cell);
    let names = RepairNames {
        schema: &row.schema,
        role: &row.role,
        owner: &roles.owner,
        access: &roles.access,
        mark: &render_mark(context.database_id, row.incarnation),
        modern: context.server.has_membership_options(),
    };
    for drift in found {
        for statement in drift.render_repair(&names)? {
            sql.add(&format!("{statement};"));
        }
    }
    Ok(sql.into_text())
}
