//! Changes of one tenant: provision, suspend, resume, revoke. Each is one transaction, sent as one message.
//!
//! All of them start with the fence, then hold the tenant's lock and its row, and only then touch role and schema.

use super::{
    Database, EpochFence, PgError, PgErrorKind, Script, done_before, instance::name_missing_schema, script::literals,
};
use crate::{
    domain::{
        cells::CellRoles,
        ident::{CellNumber, DatabaseId, Incarnation, ObjectId},
        keyring::KeyringMark,
        migrations::{TENANT, tenant_checksums, tenant_grants},
        sql::{quote_ident, quote_literal},
    },
    plan::{
        observed::{LedgerRow, RowState, render_mark},
        step::Provision,
    },
};

impl Database {
    /// Makes a tenant: ledger row, role, schema, tables, named grants, membership of the access group, marks.
    ///
    /// All or nothing. If this very tenant is there already it succeeds, so a lost reply only means to call it again.
    ///
    /// # Errors
    /// `Conflict` if the tenant id, the schema or the role is somebody else's; `Transient` if the row became another one
    /// since it was looked at. Then nothing was changed.
    pub async fn perform_provision(
        &self,
        provision: &Provision,
        owner: &ObjectId,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, owner, fence) = (provision.clone(), owner.clone(), fence.clone());
        let write = move |script: &mut Script| write_provision(script, &wanted, &owner, database_id, &fence);
        let result = self.change("provisioning the tenant", write).await.map_err(name_missing_schema);
        match done_before(result.map(drop)) {
            Ok(()) => {
                self.cells.settle(&provision.tenant_id, Some(provision.cell));
                Ok(())
            }
            Err(error) => {
                // After a lost reply the place is kept until the next look.
                if error.kind == PgErrorKind::Refused {
                    self.cells.settle(&provision.tenant_id, None);
                }
                Err(error)
            }
        }
    }

    /// Notes the last keyring that was written; an earlier one than the ledger knows changes nothing.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands.
    pub async fn perform_record_keyring(
        &self,
        row: &LedgerRow,
        mark: &KeyringMark,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (row, mark, fence) = (row.clone(), mark.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &row, &[RowState::Active, RowState::Suspended])?;
            let (keyring, incarnation) = (render_keyring(&mark)?, quote_literal(&row.incarnation.to_string())?);
            script.add(&format!(
                "UPDATE agent_tenancy.tenants SET (ring_version, ring_digest) = ROW({keyring}), epoch = {} \
                 WHERE incarnation = {incarnation} AND ring_version < {};",
                fence.epoch, mark.version
            ));
            Ok(())
        };
        self.change("noting the keyring", write).await.map(drop)
    }

    /// Takes the agent API's access away until [`Self::perform_resume_access`]: no new transaction of the tenant can start.
    /// Row state `suspended`.
    ///
    /// Idempotent; `state_since` stays that of the first call.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands.
    pub async fn perform_suspend_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        let (row, fence) = (row.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &row, &[RowState::Active, RowState::Suspended])?;
            set_state(script, &row, RowState::Suspended, &fence)?;
            script.as_owner(row.cell)?;
            revoke_membership(script, &row)
        };
        self.change("suspending access", write).await.map(drop)
    }

    /// Gives the agent API its access back. Row state `active`. Idempotent.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands, or its role is gone.
    pub async fn perform_resume_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        let (row, fence) = (row.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &row, &[RowState::Active, RowState::Suspended])?;
            set_state(script, &row, RowState::Active, &fence)?;
            script.as_owner(row.cell)?;
            write_membership(script, row.cell, &row.role)
        };
        self.change("resuming access", write).await.map(drop)
    }

    /// Takes the agent API's access away: no new transaction of the tenant can start. Row state `deleting`.
    ///
    /// Idempotent; `state_since` stays that of the first call.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands.
    pub async fn perform_revoke_access(&self, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
        let (row, fence) = (row.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            hold(script, &row, &[RowState::Active, RowState::Suspended, RowState::Deleting])?;
            set_state(script, &row, RowState::Deleting, &fence)?;
            script.as_owner(row.cell)?;
            revoke_membership(script, &row)
        };
        self.change("revoking access", write).await.map(drop)
    }
}

fn write_provision(
    script: &mut Script,
    wanted: &Provision,
    owner: &ObjectId,
    database_id: DatabaseId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    script.fenced(fence)?;
    let replaces = optional(wanted.replaces)?;
    let id = literals([wanted.tenant_id.as_str(), &wanted.incarnation.to_string()])?;
    let object = literals([owner.uid.0.as_str(), &owner.namespace, &owner.name, &fence.cluster_id])?;
    let names = literals([&wanted.schema, &wanted.role])?;
    let (epoch, cell, keyring) = (fence.epoch, wanted.cell, render_keyring(&wanted.keyring)?);
    let version = wanted.schema_version;
    script.add(&format!(
        "SELECT agent_tenancy.claim({id}, {replaces}, {object}, {epoch}, {cell}, {names}, {version}, {keyring});"
    ));
    note_schema(script, wanted.incarnation, version)?;
    script.as_owner(wanted.cell)?;
    let (schema, role) = (quote_ident(&wanted.schema)?, quote_ident(&wanted.role)?);
    script.add(&format!("CREATE ROLE {role} NOLOGIN NOINHERIT;\nCREATE SCHEMA {schema};"));
    write_tables(script, &wanted.schema, 0, version)?;
    write_privileges(script, &wanted.schema, &wanted.role, version)?;
    write_membership(script, wanted.cell, &wanted.role)?;
    write_marks(script, &wanted.schema, &wanted.role, &render_mark(database_id, wanted.incarnation))
}

/// As base: notes which files a row that was just entered has had.
pub(super) fn note_schema(script: &mut Script, incarnation: Incarnation, version: i32) -> Result<(), PgError> {
    let (incarnation, checksums) = (quote_literal(&incarnation.to_string())?, text_array(&tenant_checksums(version))?);
    script.add(&format!("SELECT agent_tenancy.note_schema({incarnation}, {version}, {checksums});"));
    Ok(())
}

/// A list of texts.
pub(super) fn text_array(texts: &[String]) -> Result<String, PgError> {
    let quoted = texts.iter().map(|text| quote_literal(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("ARRAY[{}]::text[]", quoted.join(", ")))
}

/// As owner: brings the tables from a version to another, by files that may run in a transaction.
pub(super) fn write_tables(script: &mut Script, schema: &str, from: i32, to: i32) -> Result<(), PgError> {
    script.add(&format!("SET LOCAL search_path = {};", quote_ident(schema)?));
    for migration in TENANT.iter().filter(|migration| migration.version > from && migration.version <= to) {
        script.add(&migration.sql);
    }
    script.add("SET LOCAL search_path = pg_catalog, pg_temp;");
    Ok(())
}

/// A literal, or NULL.
pub(super) fn optional(incarnation: Option<Incarnation>) -> Result<String, PgError> {
    Ok(incarnation.map(|i| quote_literal(&i.to_string())).transpose()?.unwrap_or_else(|| "NULL".to_owned()))
}

pub(super) fn render_keyring(mark: &KeyringMark) -> Result<String, PgError> {
    Ok(format!("{}, {}", mark.version, quote_literal(&mark.digest)?))
}

/// Locks the row, if it is still this owner's and in one of these states.
pub(super) fn hold(script: &mut Script, row: &LedgerRow, states: &[RowState]) -> Result<(), PgError> {
    let owner = literals([&row.incarnation.to_string(), row.uid.0.as_str()])?;
    let states: Vec<_> = states.iter().map(|state| format!("'{}'", state.as_str())).collect();
    script.add(&format!("SELECT agent_tenancy.hold({owner}, ARRAY[{}]);", states.join(", ")));
    Ok(())
}

/// Fails if role or schema carries another mark. `all`: both must be there.
pub(super) fn check_marks(
    script: &mut Script,
    row: &LedgerRow,
    database_id: DatabaseId,
    all: bool,
) -> Result<(), PgError> {
    let marks = literals([&row.role, &row.schema, &render_mark(database_id, row.incarnation)])?;
    script.add(&format!("SELECT agent_tenancy.check_marks({marks}, {all});"));
    Ok(())
}

/// Enters a state; its time is that of entering.
pub(super) fn set_state(
    script: &mut Script,
    row: &LedgerRow,
    state: RowState,
    fence: &EpochFence,
) -> Result<(), PgError> {
    let (state, incarnation) = (quote_literal(state.as_str())?, quote_literal(&row.incarnation.to_string())?);
    script.add(&format!(
        "UPDATE agent_tenancy.tenants SET state = {state}, epoch = {}, \
         state_since = CASE WHEN state = {state} THEN state_since ELSE now() END WHERE incarnation = {incarnation};",
        fence.epoch
    ));
    Ok(())
}

/// As owner: takes the role away from the access group, if there is such a role.
pub(super) fn revoke_membership(script: &mut Script, row: &LedgerRow) -> Result<(), PgError> {
    let access = CellRoles::of(script.prefix(), row.cell).access;
    let revoke = format!("REVOKE {} FROM {}", quote_ident(&row.role)?, quote_ident(&access)?);
    write_if(script, &exists_role(&row.role)?, &[revoke])
}

/// Whether there is such a role.
pub(super) fn exists_role(role: &str) -> Result<String, PgError> {
    Ok(format!("to_regrole(quote_ident({})) IS NOT NULL", quote_literal(role)?))
}

/// Whether there is such a schema.
pub(super) fn exists_schema(schema: &str) -> Result<String, PgError> {
    Ok(format!("to_regnamespace(quote_ident({})) IS NOT NULL", quote_literal(schema)?))
}

/// Runs statements where a condition holds.
pub(super) fn write_if(script: &mut Script, condition: &str, statements: &[String]) -> Result<(), PgError> {
    let body = format!("BEGIN IF {condition} THEN {}; END IF; END", statements.join("; "));
    script.add(&format!("DO {};", quote_literal(&body)?));
    Ok(())
}

pub(super) fn write_privileges(script: &mut Script, schema: &str, role: &str, version: i32) -> Result<(), PgError> {
    let (schema, role) = (quote_ident(schema)?, quote_ident(role)?);
    script.add(&format!("GRANT USAGE ON SCHEMA {schema} TO {role};"));
    for grant in tenant_grants(version)? {
        let table = quote_ident(&grant.table)?;
        script.add(&format!("GRANT {} ON {schema}.{table} TO {role};", grant.privileges.join(", ")));
    }
    Ok(())
}

pub(super) fn write_membership(script: &mut Script, cell: CellNumber, role: &str) -> Result<(), PgError> {
    let access = quote_ident(&CellRoles::of(script.prefix(), cell).access)?;
    let (role, only_set) = (quote_ident(role)?, script.server().only_set());
    script.add(&format!("GRANT {role} TO {access}{only_set};"));
    Ok(())
}

pub(super) fn write_marks(script: &mut Script, schema: &str, role: &str, mark: &str) -> Result<(), PgError> {
    let (schema, role, mark) = (quote_ident(schema)?, quote_ident(role)?, quote_literal(mark)?);
    script.add(&format!("COMMENT ON ROLE {role} IS {mark};\nCOMMENT ON SCHEMA {schema} IS {mark};"));
    Ok(())
}
