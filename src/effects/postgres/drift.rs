//! Finding drift in a whole database: one query finds the tenants with unexpected objects or privileges.

use super::{Database, PgError, instance::name_missing_schema, ledger::owner, render::literals};
use crate::domain::{
    cells::keeper_role,
    ident::{ObjectId, TenantId},
    migrations::{TENANT_VERSION, tenant_grants},
    sql::quote_literal,
};
use std::collections::{BTreeMap, BTreeSet};

/// Checks all tenants in use by joins: the expected state of a tenant is computed once and compared as a whole, which is
/// much cheaper than unpacking every access control list. `$cluster`: id of the cluster; `$items`: a column for each set of
/// privileges that a migration grants, in the notation of Postgres; `$same`: whether table `k` has the list that it should
/// have in the tenant's version; `$tables`: names of the tables of any version; `$count`: number of tables in the tenant's
/// version; `$newest`: the newest known version. Tenants with newer tables are not checked.
const QUERY: &str = "
SET LOCAL enable_nestloop = off;
SET LOCAL work_mem = '16MB';
WITH held AS MATERIALIZED (
    SELECT t.tenant_id, t.uid, t.namespace, t.name, t.schema_version, t.state = 'active' AS in_service, r.oid AS role_id,
        n.oid AS schema_id, w.oid AS owner_id, a.oid AS access_id, l.own_table, $items,
        coalesce(n.nspowner = w.oid AND (n.nspacl = l.own || l.tenant OR n.nspacl = l.tenant || l.own)
            AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolcanlogin OR r.rolreplication
                OR r.rolbypassrls OR r.rolinherit)
            AND r.rolconnlimit = -1 AND coalesce(r.rolvaliduntil, 'infinity') = 'infinity'
            AND rm.description = l.mark AND sm.description = l.mark, false) AS good
    FROM agent_tenancy.tenants t
    JOIN agent_tenancy.cells c ON c.number = t.cell
    LEFT JOIN pg_roles r ON r.rolname = t.role_name
    LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
    LEFT JOIN pg_roles w ON w.rolname = c.owner_role
    LEFT JOIN pg_roles a ON a.rolname = c.access_role
    LEFT JOIN pg_shdescription rm ON rm.objoid = r.oid AND rm.classoid = 'pg_authid'::regclass
    LEFT JOIN pg_description sm ON sm.objoid = n.oid AND sm.classoid = 'pg_namespace'::regclass AND sm.objsubid = 0
    CROSS JOIN LATERAL (SELECT CASE WHEN r.oid IS NOT NULL AND w.oid IS NOT NULL THEN quote_ident(t.role_name) END AS grantee,
        quote_ident(c.owner_role) AS grantor OFFSET 0) x
    -- OFFSET keeps each from being computed wherever it is used.
    CROSS JOIN LATERAL (SELECT format('agent-tenancy %s %s',
            (SELECT m.database_id FROM agent_tenancy.meta m), t.incarnation) AS mark,
        acldefault('n', w.oid) AS own, acldefault('r', w.oid) AS own_table,
        (x.grantee || '=U/' || x.grantor)::aclitem AS tenant OFFSET 0) l
    WHERE t.cluster_id = $cluster AND t.state IN ('active', 'suspended')
        AND t.schema_version <= $newest
), wrong AS (
    SELECT h.tenant_id FROM held h WHERE NOT h.good OR h.access_id IS NULL
    UNION ALL
    SELECT h.tenant_id FROM held h
        LEFT JOIN pg_class k ON k.relnamespace = h.schema_id AND k.relname = ANY (ARRAY[$tables]::name[])
            AND k.relkind IN ('r', 'p')
        GROUP BY h.tenant_id, h.schema_version
        HAVING count(*) FILTER (WHERE k.relowner = h.owner_id AND ($same)) <> $count
    UNION ALL
    SELECT h.tenant_id FROM pg_attribute a JOIN pg_class k ON k.oid = a.attrelid
        JOIN held h ON h.schema_id = k.relnamespace
        WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND k.relname = ANY (ARRAY[$tables]::name[])
    UNION ALL
    SELECT h.tenant_id FROM pg_class k JOIN held h ON h.schema_id = k.relnamespace AND h.owner_id = k.relowner
        WHERE k.relkind = 'S' AND k.relacl IS NOT NULL AND k.relacl <> acldefault('s', k.relowner)
    UNION ALL
    SELECT h.tenant_id FROM held h LEFT JOIN pg_auth_members a ON a.roleid = h.role_id
        GROUP BY h.tenant_id, h.in_service
        HAVING count(*) FILTER (WHERE a.member = h.access_id) <> h.in_service::int
            OR bool_or(a.member = h.access_id AND (a.admin_option $options))
            OR bool_or(a.member NOT IN (h.access_id, h.owner_id, coalesce(to_regrole(quote_ident($keeper))::oid, 0)))
            $administered
    UNION ALL
    SELECT h.tenant_id FROM held h JOIN pg_auth_members a ON a.member = h.role_id
    UNION ALL
    SELECT h.tenant_id FROM held h JOIN pg_db_role_setting s ON s.setrole = h.role_id
    UNION ALL
    SELECT h.tenant_id FROM held h JOIN pg_default_acl f ON f.defaclnamespace = h.schema_id AND f.defaclrole = h.owner_id
)
SELECT h.tenant_id, h.uid, h.namespace, h.name FROM held h
WHERE h.tenant_id IN (SELECT w.tenant_id FROM wrong w) ORDER BY h.tenant_id;";

/// The parts of [`QUERY`] that depend on the migrations: `$items`, `$same` and `$count`.
fn render_lists() -> Result<(String, String, String), PgError> {
    // By privileges and table: the versions in which they are granted.
    let mut sets: BTreeMap<String, BTreeMap<String, BTreeSet<i32>>> = BTreeMap::new();
    let mut counts = Vec::new();
    for version in 1..=TENANT_VERSION {
        let mut tables: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
        for grant in tenant_grants(version)? {
            tables.entry(grant.table).or_default().extend(grant.privileges);
        }
        counts.push(format!("WHEN {version} THEN {}", tables.len()));
        for (table, privileges) in tables {
            // In the order of Postgres: the entries of a list are compared, not their text.
            let letters = [("INSERT", 'a'), ("SELECT", 'r'), ("UPDATE", 'w'), ("DELETE", 'd')];
            let letters = letters.into_iter().filter(|(word, _)| privileges.contains(word)).map(|(_, l)| l).collect();
            sets.entry(letters).or_default().entry(table).or_default().insert(version);
        }
    }
    let (mut items, mut same) = (Vec::new(), Vec::new());
    for (n, (letters, tables)) in sets.into_iter().enumerate() {
        let item = format!("(x.grantee || '={letters}/' || x.grantor)::aclitem");
        items.push(format!("{item} AS item_{n}"));
        let mut by_versions: BTreeMap<BTreeSet<i32>, Vec<String>> = BTreeMap::new();
        for (table, versions) in tables {
            by_versions.entry(versions).or_default().push(quote_literal(&table)?);
        }
        let named = by_versions.into_iter().map(|(versions, tables)| {
            let (tables, all) = (tables.join(", "), versions.len() == counts.len());
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            let within = match all {
                true => String::new(),
                false => format!(" AND h.schema_version IN ({})", versions.join(", ")),
            };
            format!("k.relname IN ({tables}){within}")
        });
        let named: Vec<String> = named.collect();
        same.push(format!(
            "({}) AND (k.relacl = h.own_table || h.item_{n} OR k.relacl = h.item_{n} || h.own_table)",
            named.join(" OR ")
        ));
    }
    Ok((items.join(", "), same.join(" OR "), format!("CASE h.schema_version {} ELSE 0 END", counts.join(" "))))
}

impl Database {
    /// The tenants of a cluster with objects or privileges that differ from what provisioning creates, and their owners. One round
    /// trip for any number of tenants. The reconcile of each tenant finds out what differs, and decides the repair.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_drift(&self, cluster_id: &str) -> Result<Vec<(TenantId, ObjectId)>, PgError> {
        const STEP: &str = "looking for drift";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let (items, same, count) = render_lists()?;
                // Before version 16, a membership has no options, and CREATEROLE administers all roles.
                let (options, administered) = match sql.server().version >= 160_000 {
                    true => (
                        "OR a.inherit_option OR NOT a.set_option",
                        "OR NOT coalesce(bool_or(a.member = h.owner_id AND a.admin_option), false)",
                    ),
                    false => ("", ""),
                };
                let keeper = quote_literal(&keeper_role(sql.prefix().as_str()))?;
                let text = QUERY
                    .replace("$keeper", &keeper)
                    .replace("$cluster", &literals([&cluster_id])?)
                    .replace("$items", &items)
                    .replace("$same", &same)
                    .replace("$tables", &super::access::table_names()?)
                    .replace("$count", &count)
                    .replace("$newest", &TENANT_VERSION.to_string())
                    .replace("$options", options)
                    .replace("$administered", administered);
                sql.add(&text);
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        rows.iter().map(|row| owner(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }
}
