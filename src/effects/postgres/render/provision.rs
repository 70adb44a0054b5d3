//! Creating a tenant: ledger row, role, schema, tables, grants, membership of the access group, ownership marks.

use super::{
    SqlContext,
    ledger::{note_schema, render_keyring, render_tenant, render_tombstone},
    objects::{Names, write_keeper, write_marks, write_membership, write_privileges, write_tables},
    statements::{RenderError, Statements, literals},
};
use crate::{
    domain::{ident::ObjectId, sql::quote_ident},
    plan::{observed::render_mark, step::Provision},
};

/// One transaction. Fails with `ATD01` if this tenant already exists.
pub(super) fn render_provision(
    wanted: &Provision,
    tenant: &ObjectId,
    context: &SqlContext<'_>,
) -> Result<String, RenderError> {
    let mut sql = Statements::fenced_by(context)?;
    let replaces = render_tombstone(wanted.replaces)?;
    let id = literals([wanted.tenant_id.as_str(), &wanted.incarnation.to_string()])?;
    let (tenant, names) = (render_tenant(tenant, context)?, literals([&wanted.schema, &wanted.role])?);
    let (epoch, cell, keyring) = (context.fence.epoch, wanted.cell, render_keyring(&wanted.keyring)?);
    let version = wanted.schema_version;
    sql.add(&format!(
        "SELECT agent_tenancy.claim({id}, {replaces}, {tenant}, {epoch}, {cell}, {names}, {version}, {keyring});"
    ));
    note_schema(&mut sql, wanted.incarnation, version)?;
    sql.as_owner(wanted.cell)?;
    let (schema, role) = (quote_ident(&wanted.schema)?, quote_ident(&wanted.role)?);
    sql.add(&format!("CREATE ROLE {role} NOLOGIN NOINHERIT;\nCREATE SCHEMA {schema};"));
    write_keeper(&mut sql, &wanted.role)?;
    let names = Names { schema: &wanted.schema, role: &wanted.role };
    write_tables(&mut sql, &wanted.schema, 0, version)?;
    write_privileges(&mut sql, names, version)?;
    write_membership(&mut sql, wanted.cell, &wanted.role)?;
    write_marks(&mut sql, names, &render_mark(context.database_id, wanted.incarnation))?;
    Ok(sql.into_text())
}
