//! Reading the state of one tenant: ledger row, role, schema, marks, privileges. One round trip.

use super::{
    Database, PgError, access::render_access, instance::name_missing_schema, instance::parse_text, render::literals,
};
use crate::{
    domain::{
        ident::{CellNumber, DatabaseId, Incarnation, ObjectId, TenantId, Uid},
        keyring::KeyringMark,
        sql::quote_literal,
    },
    plan::{
        drift::AccessFacts,
        observed::{
            Archive, LedgerFacts, LedgerRow, RowState,
            applied::{Applied, MigrationFailure},
            takeover_grant::TakeoverGrant,
        },
    },
};
use serde::Deserialize;
use sqlx::{Row, postgres::PgRow};
use std::collections::BTreeMap;

pub(super) fn owner(row: &PgRow) -> Result<(TenantId, ObjectId), sqlx::Error> {
    let id: String = row.try_get(0)?;
    let id = TenantId::parse(&id).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok((id, ObjectId { uid: Uid(row.try_get(1)?), namespace: row.try_get(2)?, name: row.try_get(3)? }))
}

pub(super) const STEP: &str = "reading the tenant";

/// `$wanted`: rows of a number, a tenant id and the derived name, as literals; `$access`, `$transactions`: expressions.
const FACTS: &str = "
SELECT json_build_object(
    'database_id', (SELECT m.database_id FROM agent_tenancy.meta m),
    'row', CASE WHEN t.tenant_id IS NOT NULL THEN json_build_object('incarnation', t.incarnation, 'uid', t.uid,
        'namespace', t.namespace, 'name', t.name, 'cluster_id', t.cluster_id, 'cell', coalesce(t.cell, 0),
        'schema', t.schema_name, 'role', t.role_name, 'schema_version', t.schema_version,
        'schema_checksums', t.schema_checksums,
        'own', json_build_object('version', t.own_version, 'checksums', t.own_checksums),
        'keyring', json_build_object('version', t.ring_version, 'digest', t.ring_digest), 'state', t.state,
        'since_micros', (extract(epoch FROM t.state_since) * 1000000)::bigint) END,
    'heartbeat_age', (SELECT extract(epoch FROM now() - h.seen_at)::bigint FROM agent_tenancy.heartbeats h
        WHERE h.cluster_id = t.cluster_id),
    'permitted', (SELECT coalesce(json_agg(json_build_object('cluster_id', p.to_cluster_id, 'uid', p.to_uid)), '[]'::json)
        FROM agent_tenancy.takeover_permissions p WHERE p.tenant_id = t.tenant_id AND p.incarnation = t.incarnation
            AND p.from_cluster_id = t.cluster_id AND p.from_uid = t.uid),
    'failure', (SELECT json_build_object('track', f.track, 'version', f.version, 'checksum', f.checksum,
        'request', f.request, 'message', f.message) FROM agent_tenancy.migration_failures f
        WHERE f.incarnation = t.incarnation),
    'role_mark', CASE WHEN o.role_id IS NOT NULL
        THEN coalesce(shobj_description(o.role_id, 'pg_authid'), '') END,
    'schema_mark', CASE WHEN o.schema_id IS NOT NULL
        THEN coalesce(obj_description(o.schema_id, 'pg_namespace'), '') END,
    'access', $access,
    'open_transactions', $transactions,
    'archives', $archives
)::text, w.place
FROM (VALUES $wanted) w (place, tenant_id, derived)
LEFT JOIN agent_tenancy.tenants t ON t.tenant_id = w.tenant_id
LEFT JOIN agent_tenancy.cells c ON c.number = t.cell
CROSS JOIN LATERAL (SELECT to_regrole(quote_ident(coalesce(t.role_name, w.derived)))::oid AS role_id,
    to_regnamespace(quote_ident(coalesce(t.schema_name, w.derived)))::oid AS schema_id) o;";

/// The number of transactions with a lock on a relation of the schema.
const TRANSACTIONS: &str = "(SELECT count(DISTINCT l.virtualtransaction) FROM pg_locks l
    JOIN pg_class k ON k.oid = l.relation AND k.relnamespace = o.schema_id
    WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.pid IS DISTINCT FROM pg_backend_pid())";

/// The archives of the tenant id. `$previous`: UID of the Tenant that left the requested data.
const ARCHIVES: &str = "(SELECT coalesce(json_agg(json_build_object('incarnation', a.incarnation, 'uid', a.uid,
        'namespace', a.namespace, 'name', a.name, 'cluster_id', a.cluster_id, 'cell', a.cell,
        'permitted', (SELECT coalesce(json_agg(json_build_object('cluster_id', p.to_cluster_id, 'uid', p.to_uid)),
            '[]'::json) FROM agent_tenancy.takeover_permissions p WHERE p.tenant_id = a.tenant_id
            AND p.incarnation = a.incarnation AND p.from_cluster_id = a.cluster_id AND p.from_uid = a.uid), 'schema', a.schema_name, 'role', a.role_name,
        'schema_version', a.schema_version, 'schema_checksums', a.schema_checksums, 'ring_version', a.ring_version,
        'role_mark', CASE WHEN a.role_id IS NOT NULL THEN coalesce(shobj_description(a.role_id, 'pg_authid'), '') END,
        'schema_mark', CASE WHEN a.schema_id IS NOT NULL
            THEN coalesce(obj_description(a.schema_id, 'pg_namespace'), '') END) ORDER BY a.place), '[]'::json)
    FROM (SELECT k.*, to_regrole(quote_ident(k.role_name))::oid AS role_id,
            to_regnamespace(quote_ident(k.schema_name))::oid AS schema_id,
            row_number() OVER (ORDER BY k.uid = $previous DESC, k.archived_at DESC) AS place
        FROM agent_tenancy.archives k WHERE k.tenant_id = w.tenant_id ORDER BY place LIMIT 6) a)";

#[derive(Deserialize)]
struct RawFacts {
    database_id: DatabaseId,
    row: Option<RawRow>,
    heartbeat_age: Option<i64>,
    permitted: Vec<TakeoverGrant>,
    failure: Option<MigrationFailure>,
    role_mark: Option<String>,
    schema_mark: Option<String>,
    access: Option<AccessFacts>,
    open_transactions: i64,
    archives: Vec<Archive>,
}

#[derive(Deserialize)]
struct RawRow {
    incarnation: Incarnation,
    uid: Uid,
    namespace: String,
    name: String,
    cluster_id: String,
    cell: CellNumber,
    schema: String,
    role: String,
    schema_version: i32,
    schema_checksums: Vec<String>,
    own: Applied,
    keyring: KeyringMark,
    state: String,
    since_micros: i64,
}

impl RawRow {
    fn check(self) -> Result<LedgerRow, PgError> {
        let state = RowState::parse(&self.state)
            .ok_or_else(|| PgError::bug(STEP, format!("the ledger has an unknown state '{}'", self.state)))?;
        let state_since = jiff::Timestamp::from_microsecond(self.since_micros)
            .map_err(|error| PgError::bug(STEP, format!("a time in the ledger is out of range: {error}")))?;
        let Self { incarnation, uid, namespace, name, cluster_id, cell, schema, role, .. } = self;
        let (schema_version, schema_checksums, own, keyring) =
            (self.schema_version, self.schema_checksums, self.own, self.keyring);
        Ok(LedgerRow {
            incarnation,
            uid,
            namespace,
            name,
            cluster_id,
            cell,
            schema,
            role,
            schema_version,
            schema_checksums,
            own,
            keyring,
            state,
            state_since,
        })
    }
}

/// The purpose of reading a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPurpose {
    /// To serve the tenant: a cell is offered if it has none yet.
    Serving,
    /// To suspend the tenant: open transactions are counted.
    Suspending,
    /// To delete the tenant: open transactions are counted, and no cell is offered.
    Deleting,
}

impl Database {
    /// The Tenants of a cluster with data in use in this database, and their tenant ids. One round trip, about 150 bytes per
    /// tenant.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_owners(&self, cluster_id: &str) -> Result<Vec<(TenantId, ObjectId)>, PgError> {
        const STEP: &str = "listing the tenants";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let cluster = literals([&cluster_id])?;
                sql.add(&format!(
                    "SELECT t.tenant_id, t.uid, t.namespace, t.name FROM agent_tenancy.tenants t \
                     WHERE t.cluster_id = {cluster} AND t.state IN ('active', 'suspended', 'deleting') ORDER BY t.tenant_id;"
                ));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        rows.iter().map(|row| owner(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }

    /// Reads one tenant id. One round trip; the first call of a process counts the cells in another one.
    ///
    /// # Errors
    /// When the database can't be reached; [`super::PgErrorKind::NoControlSchema`] if it has none.
    pub async fn observe_tenant(&self, tenant: &TenantId, purpose: ReadPurpose) -> Result<LedgerFacts, PgError> {
        self.observe_adopting(tenant, purpose, None).await
    }

    /// The same for a Tenant that requests the data of an earlier one, `previous`: also reads the archives of the tenant id.
    ///
    /// # Errors
    /// As [`Database::observe_tenant`].
    pub async fn observe_adopting(
        &self,
        tenant: &TenantId,
        purpose: ReadPurpose,
        previous: Option<&Uid>,
    ) -> Result<LedgerFacts, PgError> {
        let mut facts = self.observe_facts(tenant, purpose, previous).await?;
        match &facts.row {
            Some(row) if row.state != RowState::Dropped => self.cells.settle(tenant, Some(row.cell)),
            // A tombstone can be replaced. The data of an earlier Tenant is in a cell already.
            None | Some(_) if purpose != ReadPurpose::Deleting && previous.is_none() => {
                facts.offer = Some(self.offer(tenant).await?);
            }
            None | Some(_) => self.cells.settle(tenant, None),
        }
        Ok(facts)
    }

    /// The same for a dry run: no place in a cell is reserved or released.
    ///
    /// # Errors
    /// As [`Database::observe_tenant`].
    pub async fn observe_unreserved(
        &self,
        tenant: &TenantId,
        purpose: ReadPurpose,
        previous: Option<&Uid>,
    ) -> Result<LedgerFacts, PgError> {
        let mut facts = self.observe_facts(tenant, purpose, previous).await?;
        let taken = facts.row.as_ref().is_some_and(|row| row.state != RowState::Dropped);
        if !taken && purpose != ReadPurpose::Deleting && previous.is_none() {
            facts.offer = Some(self.preview(tenant).await?);
        }
        Ok(facts)
    }

    /// Reads one tenant id, without offering a cell.
    async fn observe_facts(
        &self,
        tenant: &TenantId,
        purpose: ReadPurpose,
        previous: Option<&Uid>,
    ) -> Result<LedgerFacts, PgError> {
        let text = match (purpose, previous) {
            (ReadPurpose::Serving, None) => self.read_in_batch(tenant).await?,
            (ReadPurpose::Serving | ReadPurpose::Suspending | ReadPurpose::Deleting, _) => {
                let rows = self.ask(vec![tenant.clone()], purpose, previous.cloned()).await?;
                let (_, text) =
                    rows.into_iter().last().ok_or_else(|| PgError::bug(STEP, "the server returned no row"))?;
                text
            }
        };
        let raw: RawFacts = parse_text(STEP, &text)?;
        Ok(LedgerFacts {
            database_id: raw.database_id,
            row: raw.row.map(RawRow::check).transpose()?,
            heartbeat_age_seconds: raw.heartbeat_age.map(|seconds| u64::try_from(seconds).unwrap_or_default()),
            permitted: raw.permitted,
            failure: raw.failure,
            role_mark: raw.role_mark,
            schema_mark: raw.schema_mark,
            access: raw.access,
            open_transactions: raw.open_transactions,
            offer: None,
            archives: raw.archives,
        })
    }

    /// The replies for several tenants, by their position. One round trip.
    ///
    /// # Errors
    /// As [`Database::observe_tenant`].
    pub(super) async fn observe_together(&self, tenants: Vec<TenantId>) -> Result<BTreeMap<usize, String>, PgError> {
        Ok(self.ask(tenants, ReadPurpose::Serving, None).await?.into_iter().collect())
    }

    async fn ask(
        &self,
        tenants: Vec<TenantId>,
        purpose: ReadPurpose,
        previous: Option<Uid>,
    ) -> Result<Vec<(usize, String)>, PgError> {
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let mut wanted = Vec::new();
                for (place, id) in tenants.iter().enumerate() {
                    wanted.push(format!("({place}, {})", literals([id.as_str(), &id.database_name(sql.prefix())])?));
                }
                let archives = match &previous {
                    Some(uid) => ARCHIVES.replace("$previous", &quote_literal(&uid.0)?),
                    None => "'[]'::json".to_owned(),
                };
                let transactions = match purpose {
                    ReadPurpose::Serving => "0",
                    ReadPurpose::Suspending | ReadPurpose::Deleting => TRANSACTIONS,
                };
                let text = FACTS.replace("$access", &render_access()?);
                let text = text.replace("$transactions", transactions);
                let text = text.replace("$archives", &archives);
                sql.add(&text.replace("$wanted", &wanted.join(", ")));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        let read = |row: &PgRow| Ok((usize::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default(), row.try_get(0)?));
        rows.iter().map(|row| read(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }
}
