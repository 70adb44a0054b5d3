//! Statements of several steps about the role, the schemas and the tables of a tenant.

use super::statements::{RenderError, Statements};
use crate::{
    domain::{
        cells::{CellRoles, keeper_role},
        custom_migrations::own_name,
        ident::CellNumber,
        migrations::{TENANT, tenant_grants},
        sql::{QuoteError, quote_ident, quote_literal},
    },
    plan::observed::LedgerRow,
};

/// Names of a schema and a role.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) schema: &'a str,
    pub(crate) role: &'a str,
}

impl<'a> Names<'a> {
    /// The schema and the role have the same name.
    pub(crate) fn both(name: &'a str) -> Self {
        Self { schema: name, role: name }
    }
}

/// As owner: migrates the tables from one version to another. The files have to be transactional.
pub(super) fn write_tables(sql: &mut Statements, schema: &str, from: i32, to: i32) -> Result<(), RenderError> {
    sql.add(&format!("SET LOCAL search_path = {};", quote_ident(schema)?));
    for migration in TENANT.iter().filter(|migration| migration.version > from && migration.version <= to) {
        sql.add(&migration.sql);
    }
    sql.add("SET LOCAL search_path = pg_catalog, pg_temp;");
    Ok(())
}

/// As owner: grants the tenant's role its privileges on the schema and on the tables of a version.
pub(super) fn write_privileges(sql: &mut Statements, names: Names<'_>, version: i32) -> Result<(), RenderError> {
    let (schema, role) = (quote_ident(names.schema)?, quote_ident(names.role)?);
    sql.add(&format!("GRANT USAGE ON SCHEMA {schema} TO {role};"));
    for grant in tenant_grants(version)? {
        let table = quote_ident(&grant.table)?;
        sql.add(&format!("GRANT {} ON {schema}.{table} TO {role};", grant.privileges.join(", ")));
    }
    Ok(())
}

/// As owner: lets the access group switch to the role.
pub(super) fn write_membership(sql: &mut Statements, cell: CellNumber, role: &str) -> Result<(), RenderError> {
    let access = quote_ident(&CellRoles::of(sql.prefix(), cell).access)?;
    let (role, only_set) = (quote_ident(role)?, sql.server().only_set());
    sql.add(&format!("GRANT {role} TO {access}{only_set};"));
    Ok(())
}

/// On 15, as the creator of a role: lets the keeper administer it, where the bootstrap file made one, so that it can be handed
/// back after an upgrade. Newer servers give the creator the ADMIN option.
pub(super) fn write_keeper(sql: &mut Statements, role: &str) -> Result<(), RenderError> {
    if sql.server().has_membership_options() {
        return Ok(());
    }
    let keeper = keeper_role(sql.prefix().as_str());
    let grant = format!("GRANT {} TO {} WITH ADMIN OPTION", quote_ident(role)?, quote_ident(&keeper)?);
    let (role, keeper) = (quote_literal(role)?, quote_literal(&keeper)?);
    let missing = format!(
        "to_regrole(quote_ident({keeper})) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_auth_members m \
         WHERE m.roleid = to_regrole(quote_ident({role})) AND m.member = to_regrole(quote_ident({keeper})) AND m.admin_option)"
    );
    write_if(sql, &missing, &[grant])
}

/// As owner: takes the tenant out of the agent API's reach, if the role exists, and verifies that. Where the membership can't be
/// revoked, because another role granted it (an upgrade of the server does that; the REVOKE is then only a warning), the
/// tenant's role loses its privileges instead: [`write_privileges`] and [`write_custom_usage`] grant them again.
pub(super) fn write_out_of_reach(sql: &mut Statements, row: &LedgerRow) -> Result<(), RenderError> {
    let access = CellRoles::of(sql.prefix(), row.cell).access;
    let body = OUT_OF_REACH
        .replace("$role", &quote_literal(&row.role)?)
        .replace("$access", &quote_literal(&access)?)
        .replace("$schema", &quote_literal(&row.schema)?)
        .replace("$custom", &quote_literal(&own_name(&row.schema))?);
    sql.add_block(&body)
}

const OUT_OF_REACH: &str = "DECLARE
    place record;
BEGIN
    IF to_regrole(quote_ident($role)) IS NULL THEN RETURN; END IF;
    EXECUTE format('REVOKE %I FROM %I', $role, $access);
    IF NOT pg_has_role($access, $role, 'MEMBER') THEN RETURN; END IF;
    FOR place IN SELECT format('SCHEMA %I', n.nspname) AS name FROM pg_namespace n
        WHERE n.nspname IN ($schema, $custom) AND pg_get_userbyid(n.nspowner) = current_user
        UNION ALL SELECT format('%s %I.%I', CASE k.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, k.relname)
        FROM pg_class k JOIN pg_namespace n ON n.oid = k.relnamespace
        WHERE n.nspname IN ($schema, $custom) AND k.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND pg_get_userbyid(k.relowner) = current_user
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', place.name, $role);
    END LOOP;
    IF coalesce(has_schema_privilege($role, to_regnamespace(quote_ident($schema))::oid, 'USAGE'), false) THEN
        RAISE EXCEPTION 'role % is still in reach of %, by a membership that % granted', $role, $access,
            (SELECT string_agg(DISTINCT pg_get_userbyid(m.grantor)::text, ', ') FROM pg_auth_members m
                WHERE m.roleid = to_regrole(quote_ident($role)) AND m.member = to_regrole(quote_ident($access)))
            USING ERRCODE = '42501';
    END IF;
END";

/// As owner: lets the tenant's role use the schema of custom migrations, if there is one.
pub(super) fn write_custom_usage(sql: &mut Statements, schema: &str, role: &str) -> Result<(), RenderError> {
    let own = own_name(schema);
    let grant = format!("GRANT USAGE ON SCHEMA {} TO {}", quote_ident(&own)?, quote_ident(role)?);
    write_if(sql, &exists_schema(&own)?, &[grant])
}

/// As owner: writes the ownership mark of a role and a schema.
pub(super) fn write_marks(sql: &mut Statements, names: Names<'_>, mark: &str) -> Result<(), RenderError> {
    let (schema, role, mark) = (quote_ident(names.schema)?, quote_ident(names.role)?, quote_literal(mark)?);
    sql.add(&format!("COMMENT ON ROLE {role} IS {mark};\nCOMMENT ON SCHEMA {schema} IS {mark};"));
    Ok(())
}

/// As owner: renames a schema and a role, if they exist.
pub(super) fn rename_objects(sql: &mut Statements, from: Names<'_>, to: Names<'_>) -> Result<(), RenderError> {
    let rename = |from, to| Ok::<_, QuoteError>(format!("{} RENAME TO {}", quote_ident(from)?, quote_ident(to)?));
    let (schema, role) = (rename(from.schema, to.schema)?, rename(from.role, to.role)?);
    write_if(sql, &exists_schema(from.schema)?, &[format!("ALTER SCHEMA {schema}")])?;
    write_if(sql, &exists_role(from.role)?, &[format!("ALTER ROLE {role}")])
}

/// As owner: drops a schema and a role, if they exist.
pub(crate) fn drop_objects(sql: &mut Statements, cell: CellNumber, names: Names<'_>) -> Result<(), RenderError> {
    sql.as_owner(cell)?;
    let exists = exists_role(names.role)?;
    let (schema, role) = (quote_ident(names.schema)?, quote_ident(names.role)?);
    sql.add(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE;"));
    // DROP ROLE fails while the role has privileges on other objects or owns large objects. DROP OWNED needs the privileges of
    // the role, which its creator has to grant itself since version 16.
    let owner = quote_ident(&CellRoles::of(sql.prefix(), cell).owner)?;
    let inherit = if sql.server().has_membership_options() { " WITH INHERIT TRUE" } else { "" };
    let statements =
        [format!("GRANT {role} TO {owner}{inherit}"), format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")];
    write_if(sql, &exists, &statements)
}

/// As base: fails if an object outside of both schemas depends on one of them. `own`: the schema of custom migrations.
pub(crate) fn check_dependents(sql: &mut Statements, schema: &str, own: &str) -> Result<(), RenderError> {
    for schema in [own, schema] {
        sql.add(&format!("SELECT agent_tenancy.check_dependents({});", quote_literal(schema)?));
    }
    Ok(())
}

/// Condition: the role exists.
fn exists_role(role: &str) -> Result<String, QuoteError> {
    Ok(format!("to_regrole(quote_ident({})) IS NOT NULL", quote_literal(role)?))
}

/// Condition: the schema exists.
fn exists_schema(schema: &str) -> Result<String, QuoteError> {
    Ok(format!("to_regnamespace(quote_ident({})) IS NOT NULL", quote_literal(schema)?))
}

/// Runs statements if a condition is true.
fn write_if(sql: &mut Statements, condition: &str, statements: &[String]) -> Result<(), RenderError> {
    sql.add_block(&format!("BEGIN IF {condition} THEN {}; END IF; END", statements.join("; ")))
}
