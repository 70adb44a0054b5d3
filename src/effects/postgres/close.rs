//! The end of a tenant in the database: keep or drop its objects, and leave a tombstone.

use super::{
    Database, EpochFence, PgError, Script, done_before,
    script::literals,
    tenant::{check_marks, exists_role, exists_schema, hold, optional, revoke_membership, set_state, write_if},
};
use crate::{
    api::DeletionPolicy,
    domain::{
        cells::CellRoles,
        custom_migrations::own_name,
        ident::{CellNumber, DatabaseId, Incarnation, ObjectId},
        sql::{quote_ident, quote_literal},
    },
    plan::{
        observed::{LedgerRow, RowState, render_mark},
        step::CloseDatabase,
    },
};

impl Database {
    /// Closes a tenant. `Retain` keeps its objects without access; `Archive` also gives them names of their own, so that
    /// the tenant id is free; `Delete` drops schema and role; without a row only a
    /// tombstone is left, in place of an earlier one too, so that a delayed step of ours finds the id closed. All or
    /// nothing.
    ///
    /// Idempotent: what is gone already is no error. Waits for open transactions no longer than the lock timeout.
    ///
    /// # Errors
    /// `Conflict` if the row changed hands, a role or schema carries a foreign mark, or something outside the schema
    /// depends on it; `Transient` if there is another tombstone by now. Then nothing was changed.
    pub async fn perform_close(
        &self,
        close: &CloseDatabase,
        owner: &ObjectId,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, owner, fence) = (close.clone(), owner.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            match (&wanted.row, wanted.policy) {
                (None, _) => write_tombstone(script, &wanted, &owner, &fence),
                (Some(row), _) if row.cell.0 == 0 => hold(script, row, &[RowState::Dropped]),
                (Some(row), DeletionPolicy::Retain) => write_retain(script, row, &fence),
                (Some(row), DeletionPolicy::Archive) => {
                    write_archive(script, row, wanted.archive_seconds, database_id, &fence)
                }
                (Some(row), DeletionPolicy::Delete) => write_drop(script, row, database_id, &fence),
            }
        };
        done_before(self.change("closing the tenant", write).await.map(drop))?;
        self.cells.settle(&close.tenant_id, None);
        match (&close.row, close.policy) {
            (Some(row), DeletionPolicy::Delete) if row.state != RowState::Dropped => self.cells.leave(row.cell),
            // An archive keeps its place in the cell.
            (Some(_) | None, DeletionPolicy::Delete | DeletionPolicy::Archive | DeletionPolicy::Retain) => {}
        }
        Ok(())
    }
}

fn write_tombstone(
    script: &mut Script,
    wanted: &CloseDatabase,
    owner: &ObjectId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    let name = wanted.tenant_id.database_name(script.prefix());
    let id = literals([wanted.tenant_id.as_str(), &wanted.incarnation.to_string()])?;
    let replaces = optional(wanted.replaces)?;
    let object = literals([owner.uid.0.as_str(), &owner.namespace, &owner.name, &fence.cluster_id])?;
    let (epoch, name) = (fence.epoch, literals([&name])?);
    script.add(&format!("SELECT agent_tenancy.bury({id}, {replaces}, {object}, {epoch}, {name});"));
    Ok(())
}

fn write_retain(script: &mut Script, row: &LedgerRow, fence: &EpochFence) -> Result<(), PgError> {
    hold(script, row, &[RowState::Active, RowState::Suspended, RowState::Deleting, RowState::Retained])?;
    set_state(script, row, RowState::Retained, fence)?;
    script.as_owner(row.cell)?;
    revoke_membership(script, row)
}

/// What of role and schema is there gets the archive's names; a row is entered for what is not there, too, so that the
/// rest is dropped in the end.
fn write_archive(
    script: &mut Script,
    row: &LedgerRow,
    keep_seconds: i64,
    database_id: DatabaseId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    hold(script, row, &RowState::ALL)?;
    let names = [&row.schema, &row.role].map(|name| row.incarnation.archive_name(name));
    let entered = literals([&row.incarnation.to_string(), &names[0], &names[1]])?;
    script.add(&format!("SELECT agent_tenancy.archive({entered}, {keep_seconds}, {});", fence.epoch));
    check_marks(script, row, database_id, false)?;
    let (own, archived_own) = (own_name(&row.schema), row.incarnation.archived_own_name(&row.schema));
    check_own_marks(script, &own, database_id, row.incarnation)?;
    script.as_owner(row.cell)?;
    revoke_membership(script, row)?;
    rename_objects(script, [&own; 2], [&archived_own; 2])?;
    rename_objects(script, [&row.schema, &row.role], [&names[0], &names[1]])
}

fn write_drop(
    script: &mut Script,
    row: &LedgerRow,
    database_id: DatabaseId,
    fence: &EpochFence,
) -> Result<(), PgError> {
    hold(script, row, &RowState::ALL)?;
    check_marks(script, row, database_id, false)?;
    let own = own_name(&row.schema);
    check_own_marks(script, &own, database_id, row.incarnation)?;
    check_dependents(script, &row.schema, &own)?;
    set_state(script, row, RowState::Dropped, fence)?;
    drop_objects(script, row.cell, &own, &own)?;
    drop_objects(script, row.cell, &row.schema, &row.role)
}

/// As base: fails if something outside of both schemas depends on one of them. The tenant's own tables go along with it.
pub(super) fn check_dependents(script: &mut Script, schema: &str, own: &str) -> Result<(), PgError> {
    for schema in [own, schema] {
        script.add(&format!("SELECT agent_tenancy.check_dependents({});", quote_literal(schema)?));
    }
    Ok(())
}

/// As base: what there is of role and schema for the tenant's own tables carries the mark of this data.
pub(super) fn check_own_marks(
    script: &mut Script,
    name: &str,
    database_id: DatabaseId,
    incarnation: Incarnation,
) -> Result<(), PgError> {
    let marks = literals([name, name, &render_mark(database_id, incarnation)])?;
    script.add(&format!("SELECT agent_tenancy.check_marks({marks}, false);"));
    Ok(())
}

/// As owner: gives what there is of a schema and a role other names.
pub(super) fn rename_objects(script: &mut Script, from: [&str; 2], to: [&str; 2]) -> Result<(), PgError> {
    let [schema, role] =
        [0, 1].map(|n| Ok::<_, PgError>(format!("{} RENAME TO {}", quote_ident(from[n])?, quote_ident(to[n])?)));
    write_if(script, &exists_schema(from[0])?, &[format!("ALTER SCHEMA {}", schema?)])?;
    write_if(script, &exists_role(from[1])?, &[format!("ALTER ROLE {}", role?)])
}

/// As owner: drops schema and role, what of them there is.
pub(super) fn drop_objects(script: &mut Script, cell: CellNumber, schema: &str, role: &str) -> Result<(), PgError> {
    script.as_owner(cell)?;
    let exists = exists_role(role)?;
    let (schema, role) = (quote_ident(schema)?, quote_ident(role)?);
    script.add(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE;"));
    // Rights on other people's objects, or large objects, would keep the role alive. DROP OWNED needs the role's own
    // rights, which its maker has to give itself from 16 on.
    let owner = quote_ident(&CellRoles::of(script.prefix(), cell).owner)?;
    let inherit = if script.server().version >= 160_000 { " WITH INHERIT TRUE" } else { "" };
    let statements =
        [format!("GRANT {role} TO {owner}{inherit}"), format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")];
    write_if(script, &exists, &statements)
}
