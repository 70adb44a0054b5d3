//! Making way for a tenant that begins anew, because a person gave up what was lost.

use super::{
    Database, EpochFence, PgError, Script,
    script::literals,
    tenant::{hold, set_state},
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::{DatabaseId, TenantId},
        sql::quote_literal,
    },
    plan::{
        observed::{RowState, render_mark},
        tenant::loss::{Remains, kept_name, kept_own_name},
    },
};

/// Fails if the ledger has a row of the tenant id although it was seen without one.
const NO_ROW: &str = "BEGIN IF EXISTS (SELECT FROM agent_tenancy.tenants t WHERE t.tenant_id = $id) THEN
    RAISE EXCEPTION 'the ledger has a row of tenant id % by now', $id USING ERRCODE = 'ATR01'; END IF; END";

/// As base, then as the cell's owner role, which is found by what it owns or administers: there may be no row that tells.
/// Before 16 any owner role can drop the role. What others own through the role is kept: it goes to the owner role first.
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

impl Database {
    /// Puts what is left of a lost tenant out of the way: its row becomes a tombstone, its schema gets another name and
    /// keeps what is in it, its role is dropped. One transaction; doing it again changes nothing.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands or something carries another mark; `Transient` if there is a row by now.
    pub async fn perform_set_aside(
        &self,
        tenant: &TenantId,
        name: &str,
        remains: &Remains,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (tenant, name, remains, fence) = (tenant.clone(), name.to_owned(), remains.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            match &remains.row {
                Some(row) => hold(script, row, &[row.state, RowState::Dropped])?,
                None => {
                    let id = quote_literal(tenant.as_str())?;
                    script.add(&format!("SELECT agent_tenancy.lock_tenant({id});"));
                    script.add(&format!("DO {};", quote_literal(&NO_ROW.replace("$id", &id))?));
                }
            }
            let mark = render_mark(database_id, remains.incarnation);
            script.add(&format!("SELECT agent_tenancy.check_marks({}, false);", literals([&name, &name, &mark])?));
            if let Some(row) = &remains.row {
                set_state(script, row, RowState::Dropped, &fence)?;
            }
            let kept = quote_literal(&kept_name(&name, remains.incarnation))?;
            let body = PUT_AWAY.replace("$name", &quote_literal(&name)?).replace("$kept", &kept);
            // Their own tables: kept in the same way.
            let own = own_name(&name);
            let kept_own = quote_literal(&kept_own_name(&name, remains.incarnation))?;
            script.as_base()?;
            script.add(&format!("SELECT agent_tenancy.check_marks({}, false);", literals([&own, &own, &mark])?));
            let own_body = PUT_AWAY.replace("$name", &quote_literal(&own)?).replace("$kept", &kept_own);
            script.add(&format!("DO {};", quote_literal(&own_body)?));
            script.as_base()?;
            script.add(&format!("DO {};", quote_literal(&body)?));
            Ok(())
        };
        self.change("putting what is left out of the way", write).await.map(drop)
    }
}
