//! Owners and privileges of a tenant's role, schema and tables, read from the catalogs with its ledger row. `plan::drift`
//! finds the drift in them.

use super::PgError;
use crate::domain::{
    migrations::{TENANT_VERSION, tenant_grants},
    sql::quote_literal,
};
use std::collections::BTreeSet;

/// An expression in the query of one tenant, which uses its `t`, `c` and `o`. `$tables`: names of the tables, as literals.
/// Every part uses an index, so the cost does not depend on the number of tenants.
const ACCESS: &str = "CASE WHEN t.state IN ('active', 'suspended') AND o.role_id IS NOT NULL AND o.schema_id IS NOT NULL
    THEN (SELECT json_build_object(
        'server_version', v.version, 'owner', c.owner_role, 'access', c.access_role,
        'administered', v.version < 160000 OR coalesce((SELECT bool_or(a.admin_option) FROM pg_auth_members a
            WHERE a.roleid = o.role_id AND a.member = u.id), false),
        'role', (SELECT json_build_object('superuser', r.rolsuper, 'createrole', r.rolcreaterole,
            'createdb', r.rolcreatedb, 'login', r.rolcanlogin, 'replication', r.rolreplication,
            'bypassrls', r.rolbypassrls, 'inherit', r.rolinherit, 'connections', r.rolconnlimit,
            'expires', r.rolvaliduntil IS NOT NULL AND r.rolvaliduntil <> 'infinity')
            FROM pg_roles r WHERE r.oid = o.role_id),
        'settings', (SELECT coalesce(json_agg(json_build_object('name', split_part(i.item, '=', 1),
            'database', d.datname, 'ordinary', EXISTS (SELECT FROM pg_settings p
                WHERE p.name = split_part(i.item, '=', 1) AND p.context = 'user'))), '[]')
            FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) i (item)
            LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = o.role_id),
        'members', (SELECT coalesce(json_agg(json_build_object('role', pg_get_userbyid(a.member),
            'superuser', false, 'grantor', pg_get_userbyid(a.grantor), 'admin', a.admin_option,
            'inherit', coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, false),
            'set', coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)) ORDER BY a.member, a.grantor), '[]')
            FROM pg_auth_members a WHERE a.roleid = o.role_id),
        'groups', (SELECT coalesce(json_agg(json_build_object('role', g.rolname, 'superuser', g.rolsuper,
            'grantor', pg_get_userbyid(a.grantor), 'admin', a.admin_option,
            'inherit', coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, false),
            'set', coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)) ORDER BY a.roleid, a.grantor), '[]')
            FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid WHERE a.member = o.role_id),
        'schema', (SELECT json_build_object('name', n.nspname, 'owner', pg_get_userbyid(n.nspowner),
            'reachable', $reachable(n.nspowner), 'acl', n.nspacl::text[]) FROM pg_namespace n WHERE n.oid = o.schema_id),
        'tables', (SELECT coalesce(json_agg(json_build_object('name', k.relname, 'owner', pg_get_userbyid(k.relowner),
            'reachable', $reachable(k.relowner), 'acl', k.relacl::text[],
            'columns', (SELECT coalesce(json_agg(json_build_object('name', a.attname, 'acl', a.attacl::text[])
                ORDER BY a.attnum), '[]')
                FROM pg_attribute a WHERE a.attrelid = k.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped),
            'sequences', (SELECT coalesce(json_agg(json_build_object('name', q.relname,
                'owner', pg_get_userbyid(q.relowner), 'reachable', true, 'acl', q.relacl::text[]) ORDER BY q.relname), '[]')
                FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = k.oid AND d.classid = 'pg_class'::regclass
                    AND d.deptype IN ('a', 'i') AND q.relnamespace = o.schema_id)) ORDER BY k.relname), '[]')
            FROM pg_class k WHERE k.relname = ANY (ARRAY[$tables]::name[]) AND k.relnamespace = o.schema_id
                AND k.relkind IN ('r', 'p')),
        'defaults', (SELECT coalesce(json_agg(json_build_object('kind', f.defaclobjtype, 'acl', f.defaclacl::text[])
            ORDER BY f.defaclobjtype), '[]')
            FROM pg_default_acl f WHERE f.defaclrole = u.id AND f.defaclnamespace = o.schema_id))
    FROM (SELECT current_setting('server_version_num')::int AS version) v,
        (SELECT to_regrole(quote_ident(c.owner_role))::oid AS id) u) END";

/// Whether the owner role is `$1`, or can grant itself membership in it.
const REACHABLE: &str = "CASE WHEN $1 = u.id THEN true ELSE coalesce((SELECT NOT x.rolsuper
    AND CASE WHEN v.version < 160000 THEN NOT pg_has_role(x.oid, u.id, 'MEMBER')
        ELSE pg_has_role(u.id, x.oid, 'MEMBER WITH ADMIN OPTION') END FROM pg_roles x WHERE x.oid = $1), false) END";

/// The expression, with the names of all tables that any migration creates.
pub(super) fn render_access() -> Result<String, PgError> {
    let text = ["n.nspowner", "k.relowner"].iter().fold(ACCESS.to_owned(), |text, owner| {
        text.replace(&format!("$reachable({owner})"), &REACHABLE.replace("$1", owner))
    });
    Ok(text.replace("$tables", &table_names()?))
}

/// Names of the tables that any migration creates, as literals.
pub(super) fn table_names() -> Result<String, PgError> {
    let tables: BTreeSet<String> = tenant_grants(TENANT_VERSION)?.into_iter().map(|grant| grant.table).collect();
    let quoted = tables.iter().map(|table| quote_literal(table)).collect::<Result<Vec<_>, _>>()?;
    Ok(quoted.join(", "))
}
