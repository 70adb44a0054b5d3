//! Archives whose time is over: finding them, and dropping one at a time.

use super::{
    Database, EpochFence, PgError, PgErrorKind, Script,
    close::{check_dependents, check_own_marks, drop_objects},
    instance::parse_one,
    script::literals,
};
use crate::{
    domain::{
        ident::{CellNumber, DatabaseId, Incarnation, ObjectId, TenantId, Uid},
        sql::quote_literal,
    },
    plan::observed::render_mark,
};
use serde::Deserialize;

/// An archive that may be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DueArchive {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// The tenant id it was of.
    pub tenant_id: TenantId,
    uid: Uid,
    namespace: String,
    name: String,
    cell: CellNumber,
    /// Its schema.
    pub schema: String,
    role: String,
}

impl DueArchive {
    /// The deleted Tenant it belonged to.
    pub fn object(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// What one look at the archives of a cluster says.
#[derive(Clone, Debug, Deserialize)]
pub struct DueArchives {
    /// Some of those whose time is over, by incarnation.
    pub due: Vec<DueArchive>,
    /// Seconds until the next one's time is over, if there is one.
    pub next_seconds: Option<u64>,
}

impl Database {
    /// Looks for archives of a cluster whose time is over: at most `limit`, the first behind the incarnation `after`. One
    /// round trip.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_due_archives(
        &self,
        cluster_id: &str,
        after: Option<Incarnation>,
        limit: usize,
    ) -> Result<DueArchives, PgError> {
        const STEP: &str = "looking for old archives";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |script| {
                script.as_base()?;
                let cluster = quote_literal(&cluster_id)?;
                let after = match after {
                    Some(incarnation) => format!("AND a.incarnation > {}", quote_literal(&incarnation.to_string())?),
                    None => String::new(),
                };
                script.add(&format!(
                    "SELECT json_build_object('due', (SELECT coalesce(json_agg(json_build_object(\
                     'incarnation', d.incarnation, 'tenant_id', d.tenant_id, 'uid', d.uid, 'namespace', d.namespace, \
                     'name', d.name, 'cell', d.cell, 'schema', d.schema_name, 'role', d.role_name)), '[]'::json) FROM \
                     (SELECT a.* FROM agent_tenancy.archives a WHERE a.cluster_id = {cluster} \
                     AND a.drop_after <= now() {after} ORDER BY a.incarnation LIMIT {limit}) d), \
                     'next_seconds', (SELECT ceil(extract(epoch FROM min(a.drop_after) - now()))::bigint \
                     FROM agent_tenancy.archives a WHERE a.cluster_id = {cluster} AND a.drop_after > now()))::text;"
                ));
                Ok(())
            })
            .await?;
        parse_one(STEP, &rows)
    }

    /// Drops an archive whose time is over; `false` if somebody took it over or dropped it before, or gave it more time.
    /// All or nothing.
    ///
    /// # Errors
    /// `Conflict` if role or schema carries a foreign mark, or something outside the schema depends on it.
    pub async fn perform_drop_archive(
        &self,
        archive: &DueArchive,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<bool, PgError> {
        let (old, fence) = (archive.clone(), fence.clone());
        let write = move |script: &mut Script| {
            script.fenced(&fence)?;
            let expired = literals([&old.incarnation.to_string(), &fence.cluster_id])?;
            script.add(&format!("SELECT agent_tenancy.expire({expired});"));
            let marks = literals([&old.role, &old.schema, &render_mark(database_id, old.incarnation)])?;
            script.add(&format!("SELECT agent_tenancy.check_marks({marks}, false);"));
            let name = old.incarnation.name_before_archive(&old.schema).unwrap_or(&old.schema);
            let own = old.incarnation.archived_own_name(name);
            check_own_marks(script, &own, database_id, old.incarnation)?;
            check_dependents(script, &old.schema, &own)?;
            drop_objects(script, old.cell, &own, &own)?;
            drop_objects(script, old.cell, &old.schema, &old.role)
        };
        match self.change("dropping an archive", write).await {
            Ok(_) => {
                self.cells.leave(archive.cell);
                Ok(true)
            }
            Err(error) if error.kind == PgErrorKind::AlreadyDone => Ok(false),
            Err(error) => Err(error),
        }
    }
}
