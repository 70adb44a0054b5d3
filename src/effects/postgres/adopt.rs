//! Taking over the data of an earlier Tenant: its row, or its archive, becomes another Tenant's. One transaction.

use super::{
    Database, EpochFence, PgError, Script,
    close::{check_own_marks, rename_objects},
    done_before,
    script::literals,
    tenant::{
        hold, note_schema, optional, render_keyring, write_marks, write_membership, write_privileges, write_tables,
    },
};
use crate::{
    domain::{
        custom_migrations::own_name,
        ident::{DatabaseId, ObjectId},
        sql::{quote_ident, quote_literal},
    },
    plan::{
        observed::{LedgerRow, RowState, render_mark},
        step::{Adoption, AdoptionSource},
        takeover_request::Permission,
    },
};

impl Database {
    /// Gives kept or archived data to a new owner: ledger row, names, tables brought to this version, grants, membership.
    /// All or nothing; if this owner has it already it succeeds.
    ///
    /// # Errors
    /// `Transient` if the data is not kept any more as it was seen; `Conflict` if the tenant id is somebody else's, or role
    /// or schema is gone or carries a foreign mark. Then nothing was changed.
    pub async fn perform_adopt(
        &self,
        adoption: &Adoption,
        owner: &ObjectId,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, owner, fence) = (adoption.clone(), owner.clone(), fence.clone());
        let write = move |script: &mut Script| write_adoption(script, &wanted, &owner, database_id, &fence);
        done_before(self.change("taking over the data", write).await.map(drop))?;
        // Its place in the cell it never gave up.
        self.cells.settle(&adoption.tenant_id, None);
        Ok(())
    }

    /// Records that a Tenant may take over what another cluster's has, who said so, and nothing else. Again is the same.
    ///
    /// # Errors
    /// `Transient` if the row is not any more as it was seen.
    pub async fn perform_allow_takeover(
        &self,
        permission: &Permission,
        grant: &ObjectId,
        allowed_by: &str,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, grant, fence, allowed_by) =
            (permission.clone(), grant.clone(), fence.clone(), allowed_by.to_owned());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            let row = literals([
                wanted.tenant_id.as_str(),
                &wanted.incarnation.to_string(),
                &wanted.previous.0,
                &wanted.from_cluster_id,
            ])?;
            let grant =
                literals([grant.uid.0.as_str(), &grant.namespace, &grant.name, &fence.cluster_id, &allowed_by])?;
            script.add(&format!("SELECT agent_tenancy.allow_takeover({row}, {grant});"));
            Ok(())
        };
        self.change("allowing a takeover", write).await.map(drop)
    }

    /// Makes an adoption fail that was sent before and may still be under way: the row is not any more as it was seen.
    ///
    /// # Errors
    /// `Conflict` if the row is not kept any more.
    pub async fn perform_prevent_adoption(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        let (row, fence) = (row.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &row, &[RowState::Retained])?;
            let (epoch, incarnation) = (fence.epoch, quote_literal(&row.incarnation.to_string())?);
            script.add(&format!(
                "UPDATE agent_tenancy.tenants SET state_since = now(), epoch = {epoch} WHERE incarnation = {incarnation};"
            ));
            Ok(())
        };
        self.change("preventing an adoption", write).await.map(drop)
    }
}

fn write_adoption(
    script: &mut Script,
    wanted: &Adoption,
    owner: &ObjectId,
    database_id: DatabaseId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    script.fenced(fence)?;
    let id = literals([wanted.tenant_id.as_str(), &wanted.incarnation.to_string()])?;
    let previous = quote_literal(&wanted.previous.0)?;
    let object = literals([owner.uid.0.as_str(), &owner.namespace, &owner.name, &fence.cluster_id])?;
    let (epoch, cell, keyring) = (fence.epoch, wanted.cell, render_keyring(&wanted.keyring)?);
    let (mark, version) = (render_mark(database_id, wanted.incarnation), wanted.target_version);
    let check = |script: &mut Script, role: &str, schema: &str| {
        let marks = literals([role, schema, &mark])?;
        script.add(&format!("SELECT agent_tenancy.check_marks({marks}, true);"));
        Ok::<_, PgError>(())
    };
    match &wanted.source {
        AdoptionSource::Retained { since } => {
            let since = since.as_microsecond();
            script.add(&format!(
                "SELECT agent_tenancy.rebind({id}, {previous}, {since}, {object}, {epoch}, {version}, {keyring});"
            ));
            note_schema(script, wanted.incarnation, version)?;
            check(script, &wanted.role, &wanted.schema)?;
            script.as_owner(cell)?;
        }
        AdoptionSource::Predecessor { cluster_id, silence_seconds, by_permission } => {
            let from = quote_literal(cluster_id)?;
            let function = if *by_permission { "take_over_allowed" } else { "take_over" };
            script.add(&format!(
                "SELECT agent_tenancy.{function}({id}, {previous}, {from}, {silence_seconds}, {object}, {epoch}, \
                 {version}, {keyring});"
            ));
            note_schema(script, wanted.incarnation, version)?;
            check(script, &wanted.role, &wanted.schema)?;
            script.as_owner(cell)?;
        }
        AdoptionSource::Archived { schema, role, replaces } => {
            let (replaces, names) = (optional(*replaces)?, literals([&wanted.schema, &wanted.role])?);
            script.add(&format!(
                "SELECT agent_tenancy.claim({id}, {replaces}, {object}, {epoch}, {cell}, {names}, {version}, {keyring});\n\
                 SELECT agent_tenancy.restore({id}, {previous});"
            ));
            note_schema(script, wanted.incarnation, version)?;
            check(script, role, schema)?;
            let archived_own = wanted.incarnation.archived_own_name(&wanted.schema);
            check_own_marks(script, &archived_own, database_id, wanted.incarnation)?;
            script.as_owner(cell)?;
            let renames = [("SCHEMA", schema, &wanted.schema), ("ROLE", role, &wanted.role)];
            for (kind, old, new) in renames {
                script.add(&format!("ALTER {kind} {} RENAME TO {};", quote_ident(old)?, quote_ident(new)?));
            }
            rename_objects(script, [&archived_own; 2], [&own_name(&wanted.schema); 2])?;
        }
    }
    write_tables(script, &wanted.schema, wanted.schema_version, version)?;
    write_privileges(script, &wanted.schema, &wanted.role, version)?;
    write_membership(script, cell, &wanted.role)?;
    write_marks(script, &wanted.schema, &wanted.role, &mark)
}
