//! What the database holds for one tenant: ledger row, role, schema, marks, rights. One round trip.

use super::{
    Database, PgError, access::render_access, instance::name_missing_schema, instance::parse_text, script::literals,
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

pub(super) const STEP: &str = "looking at the tenant";

/// `$wanted`: rows of a number, tenant id and derived name, as literals; `$access`, `$transactions`: expressions.
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
    'silence', (SELECT extract(epoch FROM now() - h.seen_at)::bigint FROM agent_tenancy.heartbeats h
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

/// Transactions that hold a lock on a relation of the schema.
const TRANSACTIONS: &str = "(SELECT count(DISTINCT l.virtualtransaction) FROM pg_locks l
    JOIN pg_class k ON k.oid = l.relation AND k.relnamespace = o.schema_id
    WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.pid IS DISTINCT FROM pg_backend_pid())";

/// What is archived of the tenant id. `$previous`: the UID of the Tenant whose data is asked for.
const ARCHIVES: &str = "(SELECT coalesce(json_agg(json_build_object('incarnation', a.incarnation, 'uid', a.uid,
        'namespace', a.namespace, 'name', a.name, 'cell', a.cell, 'schema', a.schema_name, 'role', a.role_name,
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
    silence: Option<i64>,
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
            .ok_or_else(|| PgError::bug(STEP, format!("the ledger knows a state '{}'", self.state)))?;
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

/// What a look at a tenant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// To serve it: a place is offered where there is none yet.
    Serving,
    /// To take it out of service: open transactions are counted too.
    Suspending,
    /// To end it: open transactions are counted, and no place is offered.
    Deleting,
}

impl Database {
    /// The Tenants of a cluster that have data in use here, with their ids. One round trip; some 150 bytes for each.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_owners(&self, cluster_id: &str) -> Result<Vec<(TenantId, ObjectId)>, PgError> {
        const STEP: &str = "listing the tenants";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |script| {
                script.as_base()?;
                let cluster = literals([&cluster_id])?;
                script.add(&format!(
                    "SELECT t.tenant_id, t.uid, t.namespace, t.name FROM agent_tenancy.tenants t \
                     WHERE t.cluster_id = {cluster} AND t.state IN ('active', 'suspended', 'deleting') ORDER BY t.tenant_id;"
                ));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        rows.iter().map(|row| owner(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }

    /// Looks at one tenant id. One round trip, but for the first call of a process that needs to count the cells.
    /// What it is for decides what is asked.
    ///
    /// # Errors
    /// When the database can't be reached; [`super::PgErrorKind::NoControlSchema`] if it has none.
    pub async fn observe_tenant(&self, tenant: &TenantId, look: Look) -> Result<LedgerFacts, PgError> {
        self.observe_adopting(tenant, look, None).await
    }

    /// The same for a Tenant that asks for the data of an earlier one, `previous`: also looks at what is archived of the
    /// tenant id.
    ///
    /// # Errors
    /// As [`Database::observe_tenant`].
    pub async fn observe_adopting(
        &self,
        tenant: &TenantId,
        look: Look,
        previous: Option<&Uid>,
    ) -> Result<LedgerFacts, PgError> {
        let adopting = previous.is_some();
        let text = match (look, previous) {
            (Look::Serving, None) => self.look(tenant).await?,
            (Look::Serving | Look::Suspending | Look::Deleting, _) => {
                let rows = self.ask(vec![tenant.clone()], look, previous.cloned()).await?;
                let (_, text) =
                    rows.into_iter().last().ok_or_else(|| PgError::bug(STEP, "the server returned no row"))?;
                text
            }
        };
        let raw: RawFacts = parse_text(STEP, &text)?;
        let row = raw.row.map(RawRow::check).transpose()?;
        let offer = match &row {
            Some(LedgerRow {
                state: RowState::Active | RowState::Suspended | RowState::Deleting | RowState::Retained,
                cell,
                ..
            }) => {
                self.cells.settle(tenant, Some(*cell));
                None
            }
            // A tombstone can be replaced. Earlier data has its cell.
            None | Some(LedgerRow { state: RowState::Dropped, .. }) if look != Look::Deleting && !adopting => {
                Some(self.offer(tenant).await?)
            }
            None | Some(LedgerRow { state: RowState::Dropped, .. }) => {
                self.cells.settle(tenant, None);
                None
            }
        };
        Ok(LedgerFacts {
            database_id: raw.database_id,
            row,
            silence_seconds: raw.silence.map(|seconds| u64::try_from(seconds).unwrap_or_default()),
            permitted: raw.permitted,
            failure: raw.failure,
            role_mark: raw.role_mark,
            schema_mark: raw.schema_mark,
            access: raw.access,
            open_transactions: raw.open_transactions,
            offer,
            archives: raw.archives,
        })
    }

    /// What a look at each tenant to serve it answers, by its place. One round trip.
    ///
    /// # Errors
    /// As [`Database::observe_tenant`].
    pub(super) async fn observe_together(&self, tenants: Vec<TenantId>) -> Result<BTreeMap<usize, String>, PgError> {
        Ok(self.ask(tenants, Look::Serving, None).await?.into_iter().collect())
    }

    async fn ask(
        &self,
        tenants: Vec<TenantId>,
        look: Look,
        previous: Option<Uid>,
    ) -> Result<Vec<(usize, String)>, PgError> {
        let rows = self
            .read(STEP, move |script| {
                script.as_base()?;
                let mut wanted = Vec::new();
                for (place, id) in tenants.iter().enumerate() {
                    wanted.push(format!("({place}, {})", literals([id.as_str(), &id.database_name(script.prefix())])?));
                }
                let archives = match &previous {
                    Some(uid) => ARCHIVES.replace("$previous", &quote_literal(&uid.0)?),
                    None => "'[]'::json".to_owned(),
                };
                let transactions = match look {
                    Look::Serving => "0",
                    Look::Suspending | Look::Deleting => TRANSACTIONS,
                };
                let text = FACTS.replace("$access", &render_access()?);
                let text = text.replace("$transactions", transactions);
                let text = text.replace("$archives", &archives);
                script.add(&text.replace("$wanted", &wanted.join(", ")));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        let read = |row: &PgRow| Ok((usize::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default(), row.try_get(0)?));
        rows.iter().map(|row| read(row).map_err(|error| PgError::from_sqlx(STEP, &error, true))).collect()
    }
}
