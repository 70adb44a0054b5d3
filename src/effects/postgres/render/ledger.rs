//! Statements of several steps about a tenant's ledger row and the ownership marks on its objects.

use super::{
    SqlContext,
    statements::{RenderError, Statements, literals, optional, text_array},
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::{DatabaseId, Incarnation, ObjectId},
        keyring::KeyringMark,
        migrations::tenant_checksums,
        sql::{QuoteError, quote_literal},
    },
    plan::observed::{LedgerRow, RowState, render_mark},
};

/// UID, namespace, name and cluster of a Tenant, as arguments.
pub(super) fn render_tenant(tenant: &ObjectId, context: &SqlContext<'_>) -> Result<String, QuoteError> {
    literals([&tenant.uid.0, &tenant.namespace, &tenant.name, &context.fence.cluster_id])
}

/// Incarnation of a tombstone, or NULL.
pub(super) fn render_tombstone(incarnation: Option<Incarnation>) -> Result<String, QuoteError> {
    optional(incarnation.map(|i| i.to_string()).as_deref())
}

/// Version and digest of a keyring, as arguments.
pub(super) fn render_keyring(mark: &KeyringMark) -> Result<String, QuoteError> {
    Ok(format!("{}, {}", mark.version, quote_literal(&mark.digest)?))
}

/// As base: records the migration files of a new row.
pub(super) fn note_schema(sql: &mut Statements, incarnation: Incarnation, version: i32) -> Result<(), RenderError> {
    let (incarnation, checksums) = (quote_literal(&incarnation.to_string())?, text_array(&tenant_checksums(version))?);
    sql.add(&format!("SELECT agent_tenancy.note_schema({incarnation}, {version}, {checksums});"));
    Ok(())
}

/// As base: locks the row. Fails unless it still has this owner and one of these states.
pub(super) fn hold(sql: &mut Statements, row: &LedgerRow, states: &[RowState]) -> Result<(), RenderError> {
    let owner = literals([&row.incarnation.to_string(), row.uid.0.as_str()])?;
    let states: Vec<_> = states.iter().map(|state| format!("'{}'", state.as_str())).collect();
    sql.add(&format!("SELECT agent_tenancy.hold({owner}, ARRAY[{}]);", states.join(", ")));
    Ok(())
}

/// As base: sets the state. `state_since` changes only if the state does.
pub(super) fn set_state(
    sql: &mut Statements,
    row: &LedgerRow,
    state: RowState,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    let (state, incarnation) = (quote_literal(state.as_str())?, quote_literal(&row.incarnation.to_string())?);
    sql.add(&format!(
        "UPDATE agent_tenancy.tenants SET state = {state}, epoch = {}, \
         state_since = CASE WHEN state = {state} THEN state_since ELSE now() END WHERE incarnation = {incarnation};",
        context.fence.epoch
    ));
    Ok(())
}

/// Names of a role and a schema with ownership marks to check.
#[derive(Clone, Copy)]
pub(crate) struct Marked<'a> {
    pub(crate) role: &'a str,
    pub(crate) schema: &'a str,
    /// Both must exist.
    pub(crate) all: bool,
}

/// As base: fails if the role or the schema has the mark of other data.
pub(crate) fn check_marks(
    sql: &mut Statements,
    marked: Marked<'_>,
    database_id: DatabaseId,
    incarnation: Incarnation,
) -> Result<(), RenderError> {
    let marks = literals([marked.role, marked.schema, &render_mark(database_id, incarnation)])?;
    sql.add(&format!("SELECT agent_tenancy.check_marks({marks}, {});", marked.all));
    Ok(())
}

/// As base: checks the marks of the row's role and schema. `all`: both must exist.
pub(super) fn check_row_marks(
    sql: &mut Statements,
    row: &LedgerRow,
    all: bool,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    let marked = Marked { role: &row.role, schema: &row.schema, all };
    check_marks(sql, marked, context.database_id, row.incarnation)
}

/// As base: checks the marks of the role and the schema of custom migrations, if they exist.
pub(super) fn check_own_marks(
    sql: &mut Statements,
    row: &LedgerRow,
    context: &SqlContext<'_>,
) -> Result<(), RenderError> {
    let own = own_name(&row.schema);
    check_marks(sql, Marked { role: &own, schema: &own, all: false }, context.database_id, row.incarnation)
}
