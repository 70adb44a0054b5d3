//! Migrations of one tenant and of many: each file is applied and recorded once; a failure is recorded and rolled back.

use super::{
    life::write_a_message,
    setup::{CLUSTER, Instance, Steps, in_use, is_intact, object, on_both, tenant_id},
};
use agent_tenancy::{
    domain::{
        class::ErrorClass,
        ident::{Epoch, ObjectId, TenantId},
        keys::KeyBytes,
        migrations::{Migration, TENANT, TENANT_VERSION, Track, tenant_checksums},
    },
    effects::postgres::{EpochFence, PgErrorKind, ReadPurpose},
    plan::{
        instance::rollout::RolloutFacts,
        observed::LedgerRow,
        step::{Migrate, Provision},
    },
};
use devkit::PgVersion;

on_both!(
    from_one_version_to_the_next,
    a_file_that_fails,
    a_file_outside_of_a_transaction,
    a_rollout_is_observed,
    nobody_else_migrates
);

/// A tenant at version 1 with a conversation.
pub async fn old_tenant(instance: &Instance, name: &str) -> (TenantId, ObjectId, LedgerRow) {
    let (id, owner) = (tenant_id(name), object(name));
    let wanted = Provision { schema_version: 1, ..instance.provision(&id) };
    instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
    write_a_message(instance, &id).await.unwrap();
    let row = instance.row(&id).await;
    assert_eq!((row.schema_version, row.schema_checksums.clone()), (1, tenant_checksums(1)));
    (id, owner, row)
}

/// The row's next built-in migration.
pub fn next(row: &LedgerRow) -> Migrate {
    let file = TENANT[usize::try_from(row.schema_version).unwrap()].clone();
    let checksums = tenant_checksums(file.version);
    Migrate {
        row: row.clone(),
        track: Track::Base,
        file,
        checksums,
        request: String::new(),
        password: KeyBytes::new(Vec::new()),
    }
}

/// A migration with this SQL in place of the next one.
fn instead(row: &LedgerRow, sql: &str) -> Migrate {
    let version = row.schema_version + 1;
    let file = Migration { version, name: "0003_test.sql".into(), sql: sql.to_owned().into() };
    let checksums = row.schema_checksums.iter().cloned().chain([file.checksum()]).collect();
    let base =
        Migrate { row: row.clone(), track: Track::Base, file: TENANT[0].clone(), checksums, ..next_of_none(row) };
    Migrate { file, ..base }
}

fn next_of_none(row: &LedgerRow) -> Migrate {
    let old = LedgerRow { schema_version: 0, ..row.clone() };
    next(&old)
}

async fn drifted(instance: &Instance) -> Vec<String> {
    let found = instance.database.observe_drift(CLUSTER).await.unwrap();
    found.into_iter().map(|(id, _)| id.to_string()).collect()
}

/// An older version is not drift; migrations keep the data; a new tenant is at the newest version.
async fn from_one_version_to_the_next(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, _, row) = old_tenant(&instance, "acme").await;
    instance.tenant("globex").await;
    assert_eq!(drifted(&instance).await, Vec::<String>::new(), "an older version is no drift");
    assert!(is_intact(&database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap()));

    let mut step = row.clone();
    while step.schema_version < TENANT_VERSION {
        for _ in 0..2 {
            database.perform_migrate(&next(&step), instance.id, fence).await.unwrap();
        }
        step.schema_version += 1;
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts) && facts.failure.is_none());
        let now = facts.row.unwrap();
        let version = step.schema_version;
        assert_eq!((now.schema_version, now.schema_checksums), (version, tenant_checksums(version)));
    }
    write_a_message(&instance, &id).await.unwrap();
    assert_eq!(drifted(&instance).await, Vec::<String>::new());
    let kept = format!("SELECT count(*) FROM \"{}\".conversations", row.schema);
    assert_eq!(instance.count(&kept).await, 2);

    // Tables of a newer operator are not checked.
    instance.as_admin("UPDATE agent_tenancy.tenants SET schema_version = 99 WHERE tenant_id = 'acme'").await;
    let spoil = format!("GRANT TRUNCATE ON \"{0}\".messages TO \"{0}\"", row.schema);
    instance.as_admin(&spoil).await;
    assert_eq!(drifted(&instance).await, Vec::<String>::new());
}

/// A file that fails for one tenant is rolled back and recorded, and does not affect other tenants.
async fn a_file_that_fails(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, _, row) = old_tenant(&instance, "acme").await;
    let (other, _, good) = old_tenant(&instance, "globex").await;
    instance.as_admin(&format!("CREATE TABLE \"{}\".storage (mine int)", row.schema)).await;

    let step = Migrate { request: "first".to_owned(), ..next(&row) };
    for _ in 0..2 {
        let error = database.perform_migrate(&step, instance.id, fence).await.unwrap_err();
        assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::FileFailed), "{error}");
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts));
        let failure = facts.failure.unwrap();
        assert_eq!((failure.track, failure.version, failure.request.as_str()), (Track::Base, 2, "first"));
        assert_eq!(failure.checksum, TENANT[1].checksum());
        assert!(failure.message.contains("already exists") && error.note.contains(&failure.message), "{error}");
        assert_eq!(facts.row.unwrap().schema_version, 1);
    }
    assert_eq!(instance.count("SELECT attempts::bigint FROM agent_tenancy.migration_failures").await, 2);
    write_a_message(&instance, &id).await.unwrap();
    let triggers = format!(
        "SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = '\"{}\".messages'::regclass AND NOT t.tgisinternal",
        row.schema
    );
    assert_eq!(instance.count(&triggers).await, 0, "the file is rolled back");

    database.perform_migrate(&next(&good), instance.id, fence).await.unwrap();
    assert_eq!(instance.row(&other).await.schema_version, 2);

    instance.as_admin(&format!("DROP TABLE \"{}\".storage", row.schema)).await;
    database.perform_migrate(&next(&row), instance.id, fence).await.unwrap();
    let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert!(facts.failure.is_none() && is_intact(&facts), "the failure is deleted");
    // A late retry of the failed step does not record it again.
    database.perform_migrate(&step, instance.id, fence).await.unwrap();

    // A lock timeout is no failure of the file.
    let (_, _, row) = old_tenant(&instance, "initech").await;
    let mut admin = instance.admin().await;
    let lock = format!("BEGIN; LOCK TABLE \"{}\".messages IN SHARE MODE", row.schema);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut admin).await.unwrap();
    let busy = database.perform_migrate(&next(&row), instance.id, fence).await.unwrap_err();
    assert_eq!((busy.class, busy.sqlstate.as_deref()), (ErrorClass::Transient, Some("55P03")));
    assert_eq!(instance.count("SELECT count(*) FROM agent_tenancy.migration_failures").await, 0);
    drop(admin);
}

/// A statement outside of a transaction: the next attempt first removes what a failed one has left.
async fn a_file_outside_of_a_transaction(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, _, row) = instance.tenant("acme").await;
    write_a_message(&instance, &id).await.unwrap();
    write_a_message(&instance, &id).await.unwrap();
    let sql = "-- no-transaction\n-- grant: SELECT ON conversations\n\
        CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one_each ON conversations (sub)";
    let step = instead(&row, sql);
    let index = format!(
        "SELECT coalesce(sum(CASE WHEN i.indisvalid THEN 1 ELSE 100 END), 0)::bigint FROM pg_index i \
         JOIN pg_class k ON k.oid = i.indexrelid WHERE k.relname = 'one_each' \
         AND k.relnamespace = '\"{}\"'::regnamespace",
        row.schema
    );
    let error = database.perform_migrate(&step, instance.id, fence).await.unwrap_err();
    assert_eq!((error.kind, error.sqlstate.as_deref()), (PgErrorKind::FileFailed, Some("23505")), "{error}");
    assert_eq!(instance.count(&index).await, 100, "Postgres leaves an invalid index");

    instance.as_admin(&format!("DELETE FROM \"{}\".conversations", row.schema)).await;
    for _ in 0..2 {
        database.perform_migrate(&step, instance.id, fence).await.unwrap();
        assert_eq!(instance.count(&index).await, 1, "the invalid index is replaced");
    }
    let now = instance.row(&id).await;
    assert_eq!(
        (now.schema_version, now.schema_checksums.last()),
        (row.schema_version + 1, Some(&step.file.checksum()))
    );
}

/// Tenants that are behind, blocked and next, in one round trip.
async fn a_rollout_is_observed(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let observe = async |canaries: &[&str], first| -> RolloutFacts {
        let canaries: Vec<String> = canaries.iter().map(|name| format!("team/{name}")).collect();
        let before = database.round_trips();
        let facts = database.observe_fleet(CLUSTER, 2, None, &canaries, first).await.unwrap();
        assert_eq!(database.round_trips() - before, 1);
        facts
    };
    assert_eq!(observe(&[], 1).await, RolloutFacts::default());
    for name in ["a", "b", "c", "d"] {
        old_tenant(&instance, name).await;
    }
    instance.tenant("new").await;
    let facts = observe(&["c"], 2).await;
    assert_eq!((facts.tenants, facts.behind, facts.blocked), (5, 4, 0));
    assert_eq!(facts.versions, [(1, 4), (TENANT_VERSION, 1)].into());
    assert_eq!((facts.next.len(), facts.next[0].object.name.as_str(), facts.next[0].canary), (4, "c", true));
    assert!(facts.canaries_behind >= 1 && facts.canary_seconds.is_some_and(|s| s < 60), "{facts:?}");

    // One failed with this very file; one has another checksum for its first file.
    let (a, c) = (instance.row(&tenant_id("a")).await, instance.row(&tenant_id("c")).await);
    instance.as_admin(&format!("CREATE TABLE \"{}\".storage (mine int)", a.schema)).await;
    database.perform_migrate(&next(&a), instance.id, fence).await.unwrap_err();
    instance.as_admin("UPDATE agent_tenancy.tenants SET schema_checksums = ARRAY['other'] WHERE tenant_id = 'b'").await;
    database.perform_migrate(&next(&c), instance.id, fence).await.unwrap();
    let facts = observe(&["c"], 1).await;
    assert_eq!((facts.behind, facts.blocked, facts.canaries_behind), (3, 2, 0));
    assert_eq!(facts.next.iter().map(|n| n.object.name.as_str()).collect::<Vec<_>>(), ["d"]);
    // A changed file is tried again.
    instance.as_admin("UPDATE agent_tenancy.migration_failures SET checksum = 'earlier'").await;
    assert_eq!(observe(&["c"], 1).await.blocked, 1);
    let canary_failed = observe(&["b"], 1).await;
    assert_eq!((canary_failed.canaries_behind, canary_failed.canaries_blocked), (1, 1));
    let limits = database.observe_headroom().await.unwrap();
    assert!(limits.max_connections > limits.reserved_connections && limits.connections > 0, "{limits:?}");
    assert!(limits.lock_slots >= 64 * limits.max_connections && limits.tables > 20, "{limits:?}");
    assert_eq!(database.observe_fleet("another", 2, None, &[], 1).await.unwrap(), RolloutFacts::default());
}

/// An old leader is refused; two concurrent migrations apply the file once.
async fn nobody_else_migrates(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = old_tenant(&instance, "acme").await;
    let step = next(&row);
    let (a, b) = tokio::join!(
        instance.database.perform_migrate(&step, instance.id, &instance.fence),
        instance.database.perform_migrate(&step, instance.id, &instance.fence)
    );
    assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
    for result in [a, b] {
        assert!(result.is_ok() || result.unwrap_err().class == ErrorClass::Transient);
    }
    assert_eq!(instance.row(&id).await.schema_version, 2);

    let (id, _, row) = old_tenant(&instance, "globex").await;
    instance.database.perform_raise_epoch(CLUSTER, Epoch(2)).await.unwrap();
    let late = instance.database.perform_migrate(&next(&row), instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(late.kind, PgErrorKind::Fenced);
    assert_eq!(instance.row(&id).await.schema_version, 1);
    let now = EpochFence { epoch: Epoch(2), ..instance.fence.clone() };
    instance.database.perform_migrate(&next(&row), instance.id, &now).await.unwrap();
    assert_eq!(instance.row(&id).await.schema_version, 2);
}
