//! Finding and dropping expired archives.

use super::{
    Database, EpochFence, PgError, PgErrorKind,
    instance::parse_one,
    render::{Marked, Names, Statements, check_dependents, check_marks, drop_objects, literals},
};
use crate::domain::{
    ident::{CellNumber, DatabaseId, Incarnation, ObjectId, TenantId, Uid},
    sql::quote_literal,
};
use serde::Deserialize;

/// An archive that may be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DueArchive {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// Tenant id of the data.
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
    /// The deleted Tenant that owned the data.
    pub fn object(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// Expired archives of a cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct DueArchives {
    /// Some expired archives, ordered by incarnation.
    pub due: Vec<DueArchive>,
    /// Seconds until the next archive expires, if there is one.
    pub next_seconds: Option<u64>,
}

impl Database {
    /// Reads at most `limit` expired archives of a cluster, starting after the incarnation `after`. One round trip.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_due_archives(
        &self,
        cluster_id: &str,
        after: Option<Incarnation>,
        limit: usize,
    ) -> Result<DueArchives, PgError> {
        const STEP: &str = "reading expired archives";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let cluster = quote_literal(&cluster_id)?;
                let after = match after {
                    Some(incarnation) => format!("AND a.incarnation > {}", quote_literal(&incarnation.to_string())?),
                    None => String::new(),
                };
                sql.add(&format!(
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

    /// Drops an expired archive in one transaction. Returns `false` if it was taken over, dropped or extended meanwhile.
    ///
    /// # Errors
    /// `Conflict` if the role or the schema has the mark of other data, or an object outside of the schema depends on it.
    pub async fn perform_drop_archive(
        &self,
        archive: &DueArchive,
        database_id: DatabaseId,
        fence: &EpochFence,
    ) -> Result<bool, PgError> {
        let (old, fence) = (archive.clone(), fence.clone());
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            let expired = literals([&old.incarnation.to_string(), &fence.cluster_id])?;
            sql.add(&format!("SELECT agent_tenancy.expire({expired});"));
            let marked = Marked { role: &old.role, schema: &old.schema, all: false };
            check_marks(sql, marked, database_id, old.incarnation)?;
            let name = old.incarnation.name_before_archive(&old.schema).unwrap_or(&old.schema);
            let own = old.incarnation.archived_own_name(name);
            let marked = Marked { role: &own, schema: &own, all: false };
            check_marks(sql, marked, database_id, old.incarnation)?;
            check_dependents(sql, &old.schema, &own)?;
            drop_objects(sql, old.cell, Names::both(&own))?;
            Ok(drop_objects(sql, old.cell, Names { schema: &old.schema, role: &old.role })?)
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
