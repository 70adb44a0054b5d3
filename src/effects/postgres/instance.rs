//! A database instance: preflight checks, the control schema, the leader's epoch. `plan::instance::plan_instance` decides
//! what to do about them.

use super::{
    Database, EpochFence, PgError, PgErrorKind, Statements,
    cell_facts::render_cell_facts,
    render::{KEEP_COMMITS, literals},
};
use crate::{
    domain::{
        cells::{base_role, keeper_role},
        ident::Epoch,
        migrations::{CONTROL, Migration},
        sql::quote_literal,
        sqlstate,
    },
    plan::instance::preflight::{ControlFacts, InstanceFacts},
};
use serde::de::DeserializeOwned;
use sqlx::{Row, postgres::PgRow};

/// The facts that can be read without switching to the base role. `$base`: name of the base role, as a literal.
const FACTS: &str = "
SELECT json_build_object(
    'server_version', current_setting('server_version_num')::int,
    'database', d.datname,
    'login', (SELECT json_build_object('name', r.rolname, 'superuser', r.rolsuper, 'createrole', r.rolcreaterole,
        'login', r.rolcanlogin, 'inherit', r.rolinherit) FROM pg_roles r WHERE r.rolname = session_user),
    'base', (SELECT json_build_object('name', r.rolname, 'superuser', r.rolsuper, 'createrole', r.rolcreaterole,
        'login', r.rolcanlogin, 'inherit', r.rolinherit) FROM pg_roles r WHERE r.oid = b.oid),
    'may_set_base', coalesce(pg_has_role(session_user, b.oid, $set), false),
    'inherits_base', coalesce(pg_has_role(session_user, b.oid, 'USAGE'), false),
    'base_grants_create', coalesce(has_database_privilege(b.oid, d.oid, 'CREATE WITH GRANT OPTION'), false),
    'base_grants_connect', coalesce(has_database_privilege(b.oid, d.oid, 'CONNECT WITH GRANT OPTION'), false),
    'public_connect', has_database_privilege('public', d.oid, 'CONNECT'),
    'public_temp', has_database_privilege('public', d.oid, 'TEMPORARY'),
    'public_create', has_database_privilege('public', d.oid, 'CREATE'),
    'public_schema', coalesce(has_schema_privilege('public', to_regnamespace('public')::oid, 'CREATE, USAGE'), false),
    'public_large_objects', has_function_privilege('public', 'pg_catalog.lo_creat(integer)', 'EXECUTE')
        OR has_function_privilege('public', 'pg_catalog.lo_create(oid)', 'EXECUTE')
        OR has_function_privilege('public', 'pg_catalog.lo_from_bytea(oid, bytea)', 'EXECUTE'),
    'encoding', pg_encoding_to_char(d.encoding),
    'collation_changed', d.datcollversion IS DISTINCT FROM pg_database_collation_actual_version(d.oid),
    'event_triggers', (SELECT coalesce(json_agg(e.evtname ORDER BY e.evtname), '[]') FROM pg_event_trigger e
        WHERE e.evtenabled IN ('O', 'A')),
    'keeper', to_regrole(quote_ident($keeper)) IS NOT NULL,
    'read_only', current_setting('default_transaction_read_only')::boolean,
    'control_owner', (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = 'agent_tenancy'),
    'control', NULL
)::text
FROM pg_database d CROSS JOIN (SELECT to_regrole(quote_ident($base))::oid AS oid) b
WHERE d.datname = current_database();";

impl Database {
    /// Reads whether the database meets the requirements, and what its control schema contains. Two round trips.
    ///
    /// # Errors
    /// When it can't be reached. A missing privilege is a fact, not an error.
    pub async fn observe_instance(&self, cluster_id: &str) -> Result<InstanceFacts, PgError> {
        const STEP: &str = "checking the database";
        let rows = self
            .read(STEP, |sql| {
                let set = if sql.server().version >= 160_000 { "'SET'" } else { "'MEMBER'" };
                let base = quote_literal(&base_role(sql.prefix()))?;
                let keeper = quote_literal(&keeper_role(sql.prefix().as_str()))?;
                sql.add(&FACTS.replace("$base", &base).replace("$set", set).replace("$keeper", &keeper));
                Ok(())
            })
            .await?;
        let mut facts: InstanceFacts = parse_one(STEP, &rows)?;
        let base = base_role(&self.settings.name_prefix);
        if facts.control_owner.as_ref() != Some(&base) || !facts.may_set_base {
            return Ok(facts);
        }
        let cluster_id = cluster_id.to_owned();
        let read = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let cluster = quote_literal(&cluster_id)?;
                sql.add(&format!(
                    "SELECT json_build_object('database_id', m.database_id, \
                     'migrations', (SELECT coalesce(json_agg(json_build_array(g.version, g.checksum) ORDER BY g.version), \
                         '[]') FROM agent_tenancy.migrations g), \
                     'epoch', (SELECT e.epoch FROM agent_tenancy.epochs e WHERE e.cluster_id = {cluster}), \
                     'cells', {})::text FROM agent_tenancy.meta m;",
                    render_cell_facts(sql.server())
                ));
                Ok(())
            })
            .await?;
        facts.control = Some(parse_one::<ControlFacts>(STEP, &read)?);
        Ok(facts)
    }

    /// Creates or migrates the control schema. Each migration is one transaction under the lock of the cells and records itself,
    /// so it can be repeated after a lost reply or a crash, and by several operators at once.
    ///
    /// # Errors
    /// `Denied` if base may not create schemas in the database.
    pub async fn perform_migrate_control(&self) -> Result<(), PgError> {
        const STEP: &str = "creating the control schema";
        for migration in CONTROL {
            let result = self
                .change(STEP, move |sql| {
                    sql.as_base()?;
                    sql.lock_cells();
                    write_migration(sql, migration)
                })
                .await;
            match result {
                Ok(_) => {}
                // The migration was applied before, or by another operator.
                Err(error) if matches!(error.code(), sqlstate::DUPLICATE_SCHEMA | sqlstate::UNIQUE_VIOLATION) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Raises the epoch of a cluster to at least `epoch`, and returns the resulting epoch. If it is greater, a newer leader
    /// exists, or the counter of the Lease fell behind and has to skip it.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn perform_raise_epoch(&self, cluster_id: &str, epoch: Epoch) -> Result<Epoch, PgError> {
        const STEP: &str = "raising the epoch";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .change(STEP, move |sql| {
                sql.as_base()?;
                let cluster = literals([&cluster_id])?;
                let heartbeat = render_heartbeat(&cluster);
                sql.add(KEEP_COMMITS);
                sql.add(&format!(
                    "INSERT INTO agent_tenancy.epochs AS e (cluster_id, epoch) VALUES ({cluster}, {epoch}) \
                     ON CONFLICT (cluster_id) DO UPDATE SET epoch = excluded.epoch WHERE e.epoch < excluded.epoch;\n\
                     {heartbeat}\n\
                     SELECT e.epoch FROM agent_tenancy.epochs e WHERE e.cluster_id = {cluster};"
                ));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        let row = rows.last().ok_or_else(|| PgError::bug(STEP, "the epoch was not returned"))?;
        row.try_get::<i32, _>(0).map(Epoch).map_err(|error| PgError::from_sqlx(STEP, &error, true))
    }

    /// Writes the heartbeat of the leader. One round trip.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema; `Fenced` if a newer leader exists.
    pub async fn perform_heartbeat(&self, fence: &EpochFence) -> Result<(), PgError> {
        let fence = fence.clone();
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            sql.add(&render_heartbeat(&literals([&fence.cluster_id])?));
            Ok(())
        };
        self.change("writing the heartbeat", write).await.map(drop)
    }

    /// The epoch of a cluster, if a leader raised it in this database.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_epoch(&self, cluster_id: &str) -> Result<Option<Epoch>, PgError> {
        const STEP: &str = "reading the epoch";
        let cluster_id = cluster_id.to_owned();
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let cluster = literals([&cluster_id])?;
                sql.add(&format!("SELECT e.epoch FROM agent_tenancy.epochs e WHERE e.cluster_id = {cluster};"));
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        let epoch = rows.first().map(|row| row.try_get::<i32, _>(0).map(Epoch)).transpose();
        epoch.map_err(|error| PgError::from_sqlx(STEP, &error, true))
    }
}

/// `cluster`: id of the cluster, as a literal.
fn render_heartbeat(cluster: &str) -> String {
    format!(
        "INSERT INTO agent_tenancy.heartbeats (cluster_id) VALUES ({cluster}) \
         ON CONFLICT (cluster_id) DO UPDATE SET seen_at = now();"
    )
}

fn write_migration(sql: &mut super::Statements, migration: &Migration) -> Result<(), PgError> {
    let record = format!(
        "INSERT INTO agent_tenancy.migrations (version, checksum) VALUES ({}, {});",
        migration.version,
        quote_literal(&migration.checksum())?
    );
    if migration.version == 1 {
        // Fails with 42P06 if it exists.
        sql.add("CREATE SCHEMA agent_tenancy;");
        sql.add(&migration.sql);
        sql.add(&record);
    } else {
        // The record comes first: it fails with 23505 if the migration was applied before.
        sql.add(&record);
        sql.add(&migration.sql);
    }
    Ok(())
}

/// Classifies the error of a database without the control schema.
pub(super) fn name_missing_schema(error: PgError) -> PgError {
    if matches!(error.code(), sqlstate::UNDEFINED_SCHEMA | sqlstate::UNDEFINED_TABLE) {
        PgError { kind: PgErrorKind::NoControlSchema, ..error }
    } else {
        error
    }
}

/// Parses the JSON text in the last row.
pub(super) fn parse_one<T: DeserializeOwned>(step: &'static str, rows: &[PgRow]) -> Result<T, PgError> {
    let row = rows.last().ok_or_else(|| PgError::bug(step, "the server returned no row"))?;
    let text: String = row.try_get(0).map_err(|error| PgError::from_sqlx(step, &error, true))?;
    parse_text(step, &text)
}

/// Parses a JSON document that the server returned.
///
/// # Errors
/// `Bug` if its structure is unexpected.
pub(super) fn parse_text<T: DeserializeOwned>(step: &'static str, text: &str) -> Result<T, PgError> {
    serde_json::from_str(text)
        .map_err(|error| PgError::bug(step, format!("the reply has an unexpected structure: {error}")))
}
