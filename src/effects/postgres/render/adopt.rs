//! Taking over the data of an earlier Tenant from its ledger row or its archive, and preventing a takeover.

use super::{
    SqlContext,
    ledger::{Marked, check_marks, hold, note_schema, render_keyring, render_tenant, render_tombstone},
    objects::{
        Names, rename_objects, write_custom_usage, write_marks, write_membership, write_privileges, write_tables,
    },
    statements::{RenderError, Statements, literals},
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::{ObjectId, Uid},
        sql::{quote_ident, quote_literal},
    },
    plan::{
        observed::{LedgerRow, RowState, render_mark},
        step::{Adoption, AdoptionSource},
    },
};

/// One transaction: ledger row, names, migrations, grants, membership. Fails with `ATD01` if the Tenant already owns the data.
pub(super) fn render_adoption(
    wanted: &Adoption,
    tenant: &ObjectId,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    let id = literals([wanted.tenant_id.as_str(), &wanted.incarnation.to_string()])?;
    let tenant_uid = &tenant.uid;
    let (previous, tenant) = (quote_literal(&wanted.previous.0)?, render_tenant(tenant, context)?);
    let (epoch, cell, keyring) = (context.fence.epoch, wanted.cell, render_keyring(&wanted.keyring)?);
    let version = wanted.target_version;
    let (database_id, incarnation) = (context.database_id, wanted.incarnation);
    match &wanted.source {
        AdoptionSource::Retained { since, granted_from } => {
            let since = since.as_microsecond();
            sql.add(&format!(
                "SELECT agent_tenancy.rebind({id}, {previous}, {since}, {tenant}, {epoch}, {version}, {keyring});"
            ));
            use_grant(&mut sql, wanted, tenant_uid, granted_from.as_deref(), "retained", context)?;
            enter(&mut sql, wanted, context)?;
        }
        AdoptionSource::Predecessor { cluster_id, heartbeat_timeout_seconds, by_permission } => {
            let from = quote_literal(cluster_id)?;
            let function = if *by_permission { "take_over_allowed" } else { "take_over" };
            sql.add(&format!(
                "SELECT agent_tenancy.{function}({id}, {previous}, {from}, {heartbeat_timeout_seconds}, {tenant}, {epoch}, \
                 {version}, {keyring});"
            ));
            enter(&mut sql, wanted, context)?;
        }
        AdoptionSource::Archived { schema, role, replaces, granted_from } => {
            let (replaces, names) = (render_tombstone(*replaces)?, literals([&wanted.schema, &wanted.role])?);
            sql.add(&format!(
                "SELECT agent_tenancy.claim({id}, {replaces}, {tenant}, {epoch}, {cell}, {names}, {version}, {keyring});\n\
                 SELECT agent_tenancy.restore({id}, {previous});"
            ));
            use_grant(&mut sql, wanted, tenant_uid, granted_from.as_deref(), "archived", context)?;
            note_schema(&mut sql, incarnation, version)?;
            check_marks(&mut sql, Marked { role, schema, all: true }, database_id, incarnation)?;
            let archived_own = incarnation.archived_own_name(&wanted.schema);
            let own = Marked { role: &archived_own, schema: &archived_own, all: false };
            check_marks(&mut sql, own, database_id, incarnation)?;
            sql.as_owner(cell)?;
            for (kind, old, new) in [("SCHEMA", schema, &wanted.schema), ("ROLE", role, &wanted.role)] {
                sql.add(&format!("ALTER {kind} {} RENAME TO {};", quote_ident(old)?, quote_ident(new)?));
            }
            rename_objects(&mut sql, Names::both(&archived_own), Names::both(&own_name(&wanted.schema)))?;
        }
    }
    let names = Names { schema: &wanted.schema, role: &wanted.role };
    write_tables(&mut sql, &wanted.schema, wanted.schema_version, version)?;
    write_privileges(&mut sql, names, version)?;
    write_custom_usage(&mut sql, &wanted.schema, &wanted.role)?;
    write_membership(&mut sql, cell, &wanted.role)?;
    write_marks(&mut sql, names, &render_mark(database_id, incarnation))?;
    Ok(sql.into_text())
}

/// Uses up the grant that allows the takeover of another namespace's data, where there is one. It comes after the row has
/// changed, so that a repeated adoption fails with `ATD01` first.
fn use_grant(
    sql: &mut Statements,
    wanted: &Adoption,
    tenant: &Uid,
    granted_from: Option<&str>,
    from_state: &str,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    let Some(from) = granted_from else { return Ok(()) };
    let arguments = literals([
        wanted.tenant_id.as_str(),
        &wanted.incarnation.to_string(),
        &wanted.previous.0,
        from,
        from_state,
        &tenant.0,
        &context.fence.cluster_id,
    ])?;
    sql.add(&format!("SELECT agent_tenancy.use_grant({arguments});"));
    Ok(())
}

/// As base: checks that the role and the schema of the row exist; then switches to the owner role.
fn enter(sql: &mut Statements, wanted: &Adoption, context: &SqlContext<'_>) -> Result<(), RenderError> {
    note_schema(sql, wanted.incarnation, wanted.target_version)?;
    let marked = Marked { role: &wanted.role, schema: &wanted.schema, all: true };
    check_marks(sql, marked, context.database_id, wanted.incarnation)?;
    sql.as_owner(wanted.cell)
}

/// Changes the row, so that a takeover that was sent earlier and arrives late fails.
pub(super) fn render_prevention(row: &LedgerRow, context: &SqlContext<'_>) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    hold(&mut sql, row, &[RowState::Retained])?;
    let (epoch, incarnation) = (context.fence.epoch, quote_literal(&row.incarnation.to_string())?);
    sql.add(&format!(
        "UPDATE agent_tenancy.tenants SET state_since = now(), epoch = {epoch} WHERE incarnation = {incarnation};"
    ));
    Ok(sql.into_text())
}
