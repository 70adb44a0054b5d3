//! Recording in the ledger which keyring was written last.

use super::{
    SqlContext,
    ledger::{hold, render_keyring},
    statements::{RenderError, Statements},
};
use crate::{
    domain::{keyring::KeyringMark, sql::quote_literal},
    plan::observed::{LedgerRow, RowState},
};

/// Changes nothing if the ledger has this or a later version.
pub(super) fn render_record(
    row: &LedgerRow,
    mark: &KeyringMark,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Active, RowState::Suspended])?;
    let (keyring, incarnation) = (render_keyring(mark)?, quote_literal(&row.incarnation.to_string())?);
    sql.add(&format!(
        "UPDATE agent_tenancy.tenants SET (ring_version, ring_digest) = ROW({keyring}), epoch = {} \
         WHERE incarnation = {incarnation} AND ring_version < {};",
        context.fence.epoch, mark.version
    ));
    Ok(sql.into_text())
}
