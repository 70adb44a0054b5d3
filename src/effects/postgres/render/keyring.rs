//! Recording in the ledger which keyring was written last.

use super::{
    SqlContext,
    ledger::{hold, render_ring},
    statements::{RenderError, Statements},
};
use crate::{
    domain::{keyring::RingMark, sql::quote_literal},
    plan::observed::{LedgerRow, RowState},
};

/// Changes nothing if the ledger has this or a later version.
pub(super) fn render_record(row: &LedgerRow, mark: &RingMark, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Active, RowState::Suspended])?;
    let (ring, incarnation) = (render_ring(mark)?, quote_literal(&row.incarnation.to_string())?);
    sql.add(&format!(
        "UPDATE agent_tenancy.tenants SET (ring_version, ring_digest) = ROW({ring}), epoch = {} \
         WHERE incarnation = {incarnation} AND ring_version < {};",
        context.fence.epoch, mark.version
    ));
    Ok(sql.into_text())
}
