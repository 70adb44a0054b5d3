//! Moving the remains of lost data out of the way, after a user accepted the loss, so that the tenant can be created again.

use super::{
    SqlContext,
    ledger::{Marked, check_marks, hold, set_state},
    statements::{RenderError, Statements},
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::TenantId,
        sql::{QuoteError, quote_literal},
    },
    plan::{
        observed::RowState,
        tenant::loss::{Remains, kept_name, kept_own_name},
    },
};

/// Fails if the ledger has a row of the tenant id. The step was planned without one.
const NO_ROW: &str = "BEGIN IF EXISTS (SELECT FROM agent_tenancy.tenants t WHERE t.tenant_id = $id) THEN
    RAISE EXCEPTION 'the ledger has a row of tenant id % by now', $id USING ERRCODE = 'ATR01'; END IF; END";

/// As base, then as the owner role of the cell. The role is found by what it owns or administers, because there may be no
/// row that names the cell. Before version 16 any owner role can drop the role. Objects that the role owns go to the owner
/// role first, so they are kept.
const PUT_AWAY: &str = "DECLARE
    schema_id oid := to_regnamespace(quote_ident($name));
    role_id oid := to_regrole(quote_ident($name));
    only_inherit text := CASE WHEN current_setting('server_version_num')::int >= 160000
        THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END;
    maker text;
BEGIN
    IF schema_id IS NULL AND role_id IS NULL THEN RETURN; END IF;
    SELECT c.owner_role INTO maker FROM agent_tenancy.cells c
        ORDER BY EXISTS (SELECT FROM pg_namespace n WHERE n.oid = schema_id
                AND n.nspowner = to_regrole(quote_ident(c.owner_role))) DESC,
            EXISTS (SELECT FROM pg_auth_members a WHERE a.roleid = role_id AND a.admin_option
                AND a.member = to_regrole(quote_ident(c.owner_role))) DESC, c.number LIMIT 1;
    EXECUTE format('SET LOCAL ROLE %I', maker);
    IF schema_id IS NOT NULL THEN EXECUTE format('ALTER SCHEMA %I RENAME TO %I', $name, $kept); END IF;
    IF role_id IS NOT NULL THEN
        EXECUTE format('GRANT %I TO %I', $name, maker) || only_inherit;
        EXECUTE format('REASSIGN OWNED BY %I TO %I', $name, maker);
        EXECUTE format('DROP OWNED BY %I', $name);
        EXECUTE format('DROP ROLE %I', $name);
    END IF;
END";

/// One transaction, idempotent: the row becomes a tombstone, the schema is renamed and keeps its content, the role is
/// dropped.
pub(super) fn render_set_aside(
    tenant: &TenantId,
    name: &str,
    remains: &Remains,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    match &remains.row {
        Some(row) => hold(&mut sql, row, &[row.state, RowState::Dropped])?,
        None => {
            let id = quote_literal(tenant.as_str())?;
            sql.add(&format!("SELECT agent_tenancy.lock_tenant({id});"));
            sql.add_block(&NO_ROW.replace("$id", &id))?;
        }
    }
    let check = |sql: &mut Statements, name: &str| {
        check_marks(sql, Marked { role: name, schema: name, all: false }, context.database_id, remains.incarnation)
    };
    check(&mut sql, name)?;
    if let Some(row) = &remains.row {
        set_state(&mut sql, row, RowState::Dropped, context)?;
    }
    // The schema of custom migrations is kept in the same way.
    let own = own_name(name);
    sql.as_base()?;
    check(&mut sql, &own)?;
    sql.add_block(&put_away(&own, &kept_own_name(name, remains.incarnation))?)?;
    sql.as_base()?;
    sql.add_block(&put_away(name, &kept_name(name, remains.incarnation))?)?;
    Ok(sql.into_text())
}

fn put_away(name: &str, kept: &str) -> Result<String, QuoteError> {
    Ok(PUT_AWAY.replace("$name", &quote_literal(name)?).replace("$kept", &quote_literal(kept)?))
}
