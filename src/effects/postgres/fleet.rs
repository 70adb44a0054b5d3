//! The progress of migrations in a database: one query over the ledger.

use super::{
    Database, PgError,
    instance::{name_missing_schema, parse_one},
    render::text_array,
};
use crate::{
    domain::{
        custom_migrations::CustomMigrations,
        migrations::{Migration, TENANT, TENANT_VERSION, tenant_checksums},
        sql::quote_literal,
    },
    plan::instance::rollout::RolloutFacts,
};

/// Most tenants that one query returns as candidates for a migration.
const MOST: usize = 256;

const FLEET: &str = "
WITH fleet AS (
    SELECT t.uid, t.namespace, t.name, t.schema_version, t.migrated_at,
        (t.schema_version < $target OR t.own_version < $own OR x.changed) AND t.schema_version <= $newest AS behind,
        coalesce(f.checksum = ANY ($checksums), false) OR x.changed AS blocked,
        row_number() OVER (ORDER BY t.namespace || '/' || t.name = ANY ($canaries) DESC, md5(t.incarnation::text))
            <= $first AS canary
    FROM agent_tenancy.tenants t
    LEFT JOIN agent_tenancy.migration_failures f ON f.incarnation = t.incarnation
    CROSS JOIN LATERAL (SELECT ($base_files)[1:cardinality(t.schema_checksums)] <> t.schema_checksums
        OR EXISTS (SELECT FROM unnest(t.own_checksums) WITH ORDINALITY AS h(had, n)
            WHERE coalesce(h.had NOT IN (($own_files)[h.n], ($own_crlf_files)[h.n]), true)) AS changed) x
    WHERE t.cluster_id = $cluster AND t.state IN ('active', 'suspended')
)
SELECT json_build_object('tenants', count(*), 'behind', count(*) FILTER (WHERE f.behind),
    'blocked', count(*) FILTER (WHERE f.behind AND f.blocked),
    'canaries_behind', count(*) FILTER (WHERE f.canary AND f.behind),
    'canaries_blocked', count(*) FILTER (WHERE f.canary AND f.behind AND f.blocked),
    'canary_seconds', abs(extract(epoch FROM now() - max(f.migrated_at) FILTER (WHERE f.canary))::bigint),
    'versions', (SELECT coalesce(json_object_agg(v.schema_version, v.n), '{}'::json)
        FROM (SELECT x.schema_version, count(*) AS n FROM fleet x GROUP BY 1) v),
    'next', (SELECT coalesce(json_agg(json_build_object('uid', n.uid, 'namespace', n.namespace, 'name', n.name,
            'canary', n.canary) ORDER BY n.canary DESC), '[]'::json)
        FROM (SELECT * FROM fleet x WHERE x.behind AND NOT x.blocked ORDER BY x.canary DESC LIMIT $most) n)
)::text FROM fleet f;";

impl Database {
    /// Reads which tenants of a cluster lack built-in migrations up to `target`, or custom ones of `own`. `canaries`: Tenants
    /// that are migrated first, as `namespace/name`; there are at least `first` of them. One round trip.
    ///
    /// # Errors
    /// When the database can't be reached or has no control schema.
    pub async fn observe_fleet(
        &self,
        cluster_id: &str,
        target: i32,
        own: Option<&CustomMigrations>,
        canaries: &[String],
        first: usize,
    ) -> Result<RolloutFacts, PgError> {
        const STEP: &str = "reading the progress of migrations";
        let (cluster_id, own, canaries) = (cluster_id.to_owned(), own.cloned(), canaries.to_vec());
        let rows = self
            .read(STEP, move |sql| {
                sql.as_base()?;
                let own_files: &[Migration] = own.as_ref().map(CustomMigrations::files).unwrap_or_default();
                let all: Vec<String> = TENANT.iter().chain(own_files).map(Migration::checksum).collect();
                // Unknown custom migrations: no tenant counts as ahead or different.
                let own_checksums = |checksum: fn(&Migration) -> String| match &own {
                    Some(own) => text_array(&own.files().iter().map(checksum).collect::<Vec<_>>()),
                    None => Ok("t.own_checksums".to_owned()),
                };
                let text = FLEET
                    .replace("$target", &target.to_string())
                    .replace("$own_files", &own_checksums(Migration::checksum)?)
                    .replace("$own_crlf_files", &own_checksums(Migration::crlf_checksum)?)
                    .replace("$own", &own.as_ref().map_or(0, CustomMigrations::version).to_string())
                    .replace("$newest", &TENANT_VERSION.to_string())
                    .replace("$checksums", &text_array(&all)?)
                    .replace("$base_files", &text_array(&tenant_checksums(TENANT_VERSION))?)
                    .replace("$canaries", &text_array(&canaries)?)
                    .replace("$first", &first.max(canaries.len()).to_string())
                    .replace("$most", &MOST.to_string())
                    .replace("$cluster", &quote_literal(&cluster_id)?);
                sql.add(&text);
                Ok(())
            })
            .await
            .map_err(name_missing_schema)?;
        parse_one(STEP, &rows)
    }
}
