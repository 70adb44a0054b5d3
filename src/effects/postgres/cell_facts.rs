//! Whether the cells can work, and repairing what the base role can repair of them.

use super::{
    Database, EpochFence, PgError,
    render::{Server, Statements},
};
use crate::domain::{
    cells::CellRoles,
    ident::CellNumber,
    sql::{quote_ident, quote_literal},
};

/// An expression: the cells that are not as they were made. `$set`: the privilege of becoming a role; `$admin`: whether ADMIN
/// options are read.
const CELLS: &str = "(SELECT coalesce(json_agg(json_build_object('cell', f.number, 'gone', f.gone, 'creates', f.creates,
        'connects', f.connects, 'members', f.members, 'held', f.held, 'unadministered', f.unadministered)
        ORDER BY f.number), '[]') FROM (
    SELECT c.number,
        (SELECT coalesce(json_agg(n.name), '[]') FROM unnest(ARRAY[c.owner_role, c.access_role, c.login_a, c.login_b]) n (name)
            WHERE to_regrole(quote_ident(n.name)) IS NULL) AS gone,
        coalesce(has_database_privilege(o.owner_id, current_database(), 'CREATE'), true) AS creates,
        coalesce(has_database_privilege(o.a, current_database(), 'CONNECT')
            AND has_database_privilege(o.b, current_database(), 'CONNECT'), true) AS connects,
        coalesce(pg_has_role(o.a, o.access_id, $set) AND pg_has_role(o.b, o.access_id, $set), true) AS members,
        coalesce(pg_has_role(current_user, o.owner_id, $set), true) AS held,
        coalesce(u.roles, 0) AS unadministered
    FROM agent_tenancy.cells c
    CROSS JOIN LATERAL (SELECT to_regrole(quote_ident(c.owner_role))::oid AS owner_id,
        to_regrole(quote_ident(c.access_role))::oid AS access_id, to_regrole(quote_ident(c.login_a))::oid AS a,
        to_regrole(quote_ident(c.login_b))::oid AS b OFFSET 0) o
    LEFT JOIN (SELECT w.cell, count(*) AS roles FROM (
            SELECT t.cell, t.role_name AS name, x.owner_role AS holder FROM agent_tenancy.tenants t
                JOIN agent_tenancy.cells x ON x.number = t.cell WHERE t.state <> 'dropped'
            UNION ALL SELECT a.cell, a.role_name, x.owner_role FROM agent_tenancy.archives a
                JOIN agent_tenancy.cells x ON x.number = a.cell
            UNION ALL SELECT x.number, n.name, current_user FROM agent_tenancy.cells x
                CROSS JOIN LATERAL unnest(ARRAY[x.owner_role, x.access_role, x.login_a, x.login_b]) n (name)) w
            JOIN pg_roles r ON r.rolname = w.name JOIN pg_roles h ON h.rolname = w.holder
            LEFT JOIN pg_auth_members s ON s.roleid = r.oid AND s.member = h.oid AND s.admin_option
            WHERE $admin AND s.roleid IS NULL GROUP BY w.cell) u ON u.cell = c.number) f
    WHERE f.gone::text <> '[]' OR NOT (f.creates AND f.connects AND f.members AND f.held) OR f.unadministered > 0)";

/// Grants what is missing; `$logins`: both logins, quoted; `$group`: the group of the cell's migration logins, as a literal.
const REPAIR: &str = "BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO $owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO $logins', current_database());
    IF to_regrole(quote_ident($group)) IS NOT NULL THEN
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), $group);
    END IF;
    IF NOT $members THEN GRANT $access TO $logins$only_set; END IF;
END";

pub(super) fn render_cell_facts(server: Server) -> String {
    let modern = server.has_membership_options();
    CELLS
        .replace("$set", if modern { "'SET'" } else { "'MEMBER'" })
        .replace("$admin", if modern { "true" } else { "false" })
}

impl Database {
    /// Gives a cell back its privileges on the database, and unless they are `members` its logins their membership. Idempotent.
    /// One round trip.
    ///
    /// # Errors
    /// `Denied` if the base role may not grant them.
    pub async fn perform_repair_cell(
        &self,
        cell: CellNumber,
        members: bool,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            sql.lock_cells();
            let roles = CellRoles::of(sql.prefix(), cell);
            let [a, b] = &roles.logins;
            let logins = format!("{}, {}", quote_ident(a)?, quote_ident(b)?);
            let group = quote_literal(&format!("{}_mig_{cell}", sql.prefix()))?;
            let body = REPAIR
                .replace("$owner", &quote_ident(&roles.owner)?)
                .replace("$logins", &logins)
                .replace("$group", &group)
                .replace("$members", if members { "true" } else { "false" })
                .replace("$access", &quote_ident(&roles.access)?)
                .replace("$only_set", sql.server().only_set());
            sql.add(&format!("DO {};", quote_literal(&body)?));
            Ok(())
        };
        self.change("repairing a cell", write).await.map(drop)
    }
}
