//! Concurrent steps, a wrong owner, an old leader, broken connections: each change is done as a whole or not at all.

use super::setup::{CLUSTER, Instance, Steps, by, cell_login, in_use, is_intact, object, on_both, tenant_id};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        cells::CellRoles,
        class::ErrorClass,
        ident::{CellNumber, Epoch},
        keys::KeyBytes,
        migrations::CONTROL,
    },
    effects::postgres::{CellLogin, EpochFence, PgErrorKind, ReadPurpose},
    plan::{drift::Drift, observed::RowState, step::CloseDatabase},
};
use devkit::{PgVersion, eventually};
use sqlx::{AssertSqlSafe, PgConnection};
use std::time::Duration;
use uuid::Uuid;

on_both!(
    sixteen_at_once,
    one_id_two_owners,
    cells_at_once,
    control_schema_at_once,
    killed_half_way,
    caller_gone,
    old_leader,
    foreign_marks,
    dependents,
    open_transactions,
    other_database
);

async fn hold(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {sql};"))).execute(connection).await.unwrap();
}

fn drop_it(row: agent_tenancy::plan::observed::LedgerRow, name: &str) -> CloseDatabase {
    let incarnation = row.incarnation;
    CloseDatabase {
        tenant_id: tenant_id(name),
        policy: DeletionPolicy::Delete,
        row: Some(row),
        incarnation,
        replaces: None,
        archive_seconds: 60,
    }
}

async fn sixteen_at_once(version: PgVersion) {
    let instance = in_use(version).await;
    let ids: Vec<_> = (0..64).map(|n| tenant_id(&format!("t{n}"))).collect();
    let start = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let breaker = std::sync::Arc::new(tokio::sync::Semaphore::new(16));
    for id in &ids {
        let (database, wanted, breaker) = (instance.database.clone(), instance.provision(id), breaker.clone());
        let (owner, database_id, fence) = (object(id.as_str()), instance.id, instance.fence.clone());
        tasks.spawn(async move {
            let _permit = breaker.acquire().await.unwrap();
            database.perform_provision(&wanted, &owner, database_id, &fence).await
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    println!("Postgres {}, 16 at once: {:.0} tenants/s", version.major(), 64.0 / start.elapsed().as_secs_f64());
    let prefix = &instance.prefix;
    assert_eq!(
        instance.count(&format!("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '{prefix}\\_t%'")).await,
        64
    );
}

async fn one_id_two_owners(version: PgVersion) {
    let instance = in_use(version).await;
    let id = tenant_id("acme");
    let owners: Vec<_> = (0..8).map(|n| (object(&format!("o{n}")), instance.provision(&id))).collect();
    let attempts = owners
        .iter()
        .map(|(owner, wanted)| instance.database.perform_provision(wanted, owner, instance.id, &instance.fence));
    let results = futures::future::join_all(attempts).await;
    let winners: Vec<_> = results.iter().enumerate().filter(|(_, r)| r.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for error in results.iter().filter_map(|r| r.as_ref().err()) {
        assert_eq!((error.class, error.sqlstate.as_deref()), (ErrorClass::Conflict, Some("ATC01")));
    }
    let (owner, wanted) = &owners[winners[0]];
    let row = instance.row(&id).await;
    assert_eq!((&row.uid, row.incarnation), (&owner.uid, wanted.incarnation));
}

async fn cells_at_once(version: PgVersion) {
    let instance = in_use(version).await;
    let (login, by) = (cell_login(), by(&instance.fence));
    let attempts = (0..12).map(|n| instance.database.perform_create_cell(CellNumber(2 + n % 3), &login, &by));
    for result in futures::future::join_all(attempts).await {
        result.unwrap();
    }
    for cell in 1..=4 {
        assert_eq!(instance.as_access(cell, "SELECT 1").await, Ok(()));
    }
    // A foreign role with a cell's name is not changed.
    let taken = CellRoles::of(&instance.prefix, CellNumber(9)).access;
    instance.as_admin(&format!("CREATE ROLE \"{taken}\"")).await;
    let refused = instance.database.perform_create_cell(CellNumber(9), &login, &by).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Conflict);
    let made = format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE '{}\\_%\\_9%'", instance.prefix);
    assert_eq!(instance.count(&made).await, 1, "nothing of cell 9 but the foreign role");
}

async fn control_schema_at_once(version: PgVersion) {
    let instance = super::setup::bootstrapped(version).await;
    let attempts = (0..8).map(|_| instance.database.perform_migrate_control());
    for result in futures::future::join_all(attempts).await {
        result.unwrap();
    }
    assert_eq!(instance.count("SELECT count(*) FROM agent_tenancy.meta").await, 1);
    assert_eq!(instance.count("SELECT count(*) FROM agent_tenancy.migrations").await, CONTROL.len() as i64);
}

/// The backend of a step is terminated while it waits for a lock; a retry completes the step.
async fn killed_half_way(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner) = (tenant_id("acme"), object("acme"));
    let wanted = instance.provision(&id);
    let mut blocker = instance.admin().await;
    hold(&mut blocker, "LOCK TABLE agent_tenancy.tenants IN ACCESS EXCLUSIVE MODE").await;
    let (provision, ()) = tokio::join!(
        instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence),
        terminate_waiting(&instance)
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    let error = provision.unwrap_err();
    assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Interrupted), "{error:?}");
    assert!(instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap().row.is_none());
    // A retry, then the same for dropping.
    instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
    let row = instance.row(&id).await;
    let mut blocker = instance.admin().await;
    hold(&mut blocker, &format!("LOCK TABLE \"{}\".messages IN ACCESS SHARE MODE", row.schema)).await;
    let step = drop_it(row, "acme");
    let (close, ()) = tokio::join!(
        instance.database.perform_close(&step, &owner, instance.id, &instance.fence),
        terminate_waiting(&instance)
    );
    assert_eq!(close.unwrap_err().kind, PgErrorKind::Interrupted);
    assert_eq!(instance.row(&id).await.state, RowState::Active, "rolled back");
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
    instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    assert_eq!(instance.row(&id).await.state, RowState::Dropped);
}

pub async fn terminate_waiting(instance: &Instance) {
    let sql = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}_operator_a' \
         AND datname = current_database() AND wait_event_type = 'Lock'",
        instance.prefix
    );
    eventually(Duration::from_secs(10), "a step waits for the lock", || async {
        anyhow::ensure!(instance.count(&sql).await > 0, "none does");
        Ok(())
    })
    .await
    .unwrap();
}

/// A step that is cancelled at any moment leaves neither a partial tenant nor an open transaction.
async fn caller_gone(version: PgVersion) {
    let instance = in_use(version).await;
    let busy = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}_operator_a' AND state = 'active'",
        instance.prefix
    );
    for n in 0..30_u64 {
        let id = tenant_id(&format!("t{n}"));
        let (wanted, owner) = (instance.provision(&id), object(id.as_str()));
        let step = instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence);
        let _ = tokio::time::timeout(Duration::from_micros(n * 300), step).await;
        // A read while the server is still working sees rows as of its start and the catalog as of now.
        eventually(Duration::from_secs(30), "the server has finished the step", || async {
            anyhow::ensure!(instance.count(&busy).await == 0, "it is still working");
            Ok(())
        })
        .await
        .unwrap();
        let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!(facts.row.is_some(), facts.role_mark.is_some() && facts.schema_mark.is_some());
        instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
        let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts));
    }
    let open = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}_operator_a' AND state LIKE 'idle in%'",
        instance.prefix
    );
    assert_eq!(instance.count(&open).await, 0);
}

async fn old_leader(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, owner, row) = instance.tenant("acme").await;
    let database = &instance.database;
    assert_eq!(database.perform_raise_epoch(CLUSTER, Epoch(5)).await.unwrap(), Epoch(5));
    assert_eq!(database.perform_raise_epoch(CLUSTER, Epoch(4)).await.unwrap(), Epoch(5), "never lowered");
    assert_eq!(database.observe_epoch(CLUSTER).await.unwrap(), Some(Epoch(5)));
    assert_eq!(database.observe_epoch("another").await.unwrap(), None);

    let (old, id) = (&instance.fence, instance.id);
    let login = CellLogin { id: None, password: KeyBytes::new(b"new-password".to_vec()), ..cell_login() };
    let refusals = [
        database.perform_provision(&instance.provision(&tenant_id("late")), &owner, id, old).await,
        database.perform_repair(&row, &[Drift::RoleMark, Drift::SchemaMark], id, old).await,
        database.perform_revoke_access(&row, old).await,
        database.perform_close(&drop_it(row.clone(), "acme"), &owner, id, old).await,
        database.perform_create_cell(CellNumber(1), &login, &by(old)).await,
        database
            .perform_repair(
                &row,
                &[Drift::RoleMark, Drift::SchemaMark],
                id,
                &EpochFence { cluster_id: "another".into(), epoch: Epoch(5) },
            )
            .await,
    ];
    for refused in refusals {
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.class), (PgErrorKind::Fenced, ErrorClass::Transient), "{error:?}");
    }
    assert_eq!(instance.row(&tenant_id("acme")).await.state, RowState::Active);
    assert_eq!(instance.as_access(1, "SELECT 1").await, Ok(()), "the old password still works");
    let new = EpochFence { epoch: Epoch(5), ..old.clone() };
    database.perform_repair(&row, &[Drift::RoleMark, Drift::SchemaMark], id, &new).await.unwrap();
}

async fn foreign_marks(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    for object in ["ROLE", "SCHEMA"] {
        let mark = |text: &str| format!("COMMENT ON {object} \"{}\" IS {text}", row.schema);
        instance.as_admin(&mark("'somebody else''s'")).await;
        let step = drop_it(row.clone(), "acme");
        let refused = instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Conflict, Some("ATC02")));
        let refused = instance
            .database
            .perform_repair(&row, &[Drift::RoleMark, Drift::SchemaMark], instance.id, &instance.fence)
            .await
            .unwrap_err();
        assert_eq!(refused.sqlstate.as_deref(), Some("ATC02"), "nor is it overwritten");
        let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!(facts.row.as_ref().map(|r| r.state), Some(RowState::Active));
        assert!(facts.schema_mark.is_some() && facts.role_mark.is_some());
        instance.as_admin(&mark("NULL")).await;
        let refused = instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!(refused.sqlstate.as_deref(), Some("ATC02"), "without a mark it is not dropped");
        instance
            .database
            .perform_repair(&row, &[Drift::RoleMark, Drift::SchemaMark], instance.id, &instance.fence)
            .await
            .unwrap();
    }
    // A foreign schema or role with a new tenant's name.
    for make in ["CREATE SCHEMA", "CREATE ROLE"] {
        let wanted = instance.provision(&tenant_id("taken"));
        let object = wanted.schema.clone();
        instance.as_admin(&format!("{make} \"{object}\"")).await;
        let refused =
            instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::Conflict);
        assert!(instance.database.observe_tenant(&wanted.tenant_id, ReadPurpose::Serving).await.unwrap().row.is_none());
        instance.as_admin(&format!("{} \"{object}\"", make.replace("CREATE", "DROP"))).await;
    }
}

async fn dependents(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    let step = drop_it(row.clone(), "acme");
    let s = &row.schema;
    for (make, drop, name) in [
        ("VIEW reports.totals AS SELECT sub FROM \"$\".usage", "VIEW reports.totals", "reports.totals"),
        ("TABLE reports.notes (id uuid REFERENCES \"$\".messages (id))", "TABLE reports.notes", "reports.notes"),
        ("TABLE reports.more () INHERITS (\"$\".settings)", "TABLE reports.more", "reports.more"),
    ] {
        instance.as_admin(&format!("CREATE SCHEMA IF NOT EXISTS reports; CREATE {}", make.replace('$', s))).await;
        let refused = instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Conflict, Some("ATC03")));
        assert!(refused.note.contains(name), "{}", refused.note);
        assert_eq!(instance.row(&id).await.state, RowState::Active);
        instance.as_admin(&format!("DROP {drop}")).await;
    }
    // Privileges on objects of others are not revoked; the message names the objects.
    instance.as_admin(&format!("CREATE TABLE reports.shared (n int); GRANT SELECT ON reports.shared TO \"{s}\"")).await;
    let refused = instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Conflict);
    assert!(refused.note.contains("table reports.shared"), "{}", refused.note);
    assert_eq!(instance.row(&id).await.state, RowState::Active);
    // A large object of the tenant's role is dropped with it.
    instance
        .as_admin(&format!(
            "REVOKE SELECT ON reports.shared FROM \"{s}\"; SELECT lo_create(4711); ALTER LARGE OBJECT 4711 OWNER TO \"{s}\""
        ))
        .await;
    instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    assert_eq!(instance.count("SELECT count(*) FROM pg_largeobject_metadata").await, 0);
    assert_eq!(instance.count("SELECT count(*) FROM reports.shared").await, 0, "the shared table itself stays");
    assert_eq!(instance.count(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{s}'")).await, 0);
}

async fn open_transactions(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    let mut chat = instance.access(1).await;
    let name = &row.schema.clone();
    hold(&mut chat, &format!("SET LOCAL ROLE \"{name}\"; SELECT count(*) FROM \"{name}\".messages")).await;
    instance.database.perform_revoke_access(&row, &instance.fence).await.unwrap();
    assert_eq!(instance.database.observe_tenant(&id, ReadPurpose::Deleting).await.unwrap().open_transactions, 1);
    assert_eq!(
        instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap().open_transactions,
        0,
        "not queried"
    );
    // Dropping waits until the lock timeout and then changes nothing.
    let step = drop_it(row, "acme");
    let busy = instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!((busy.class, busy.sqlstate.as_deref()), (ErrorClass::Transient, Some("55P03")));
    // The open transaction can still commit.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "INSERT INTO \"{name}\".conversations (id, sub) VALUES (gen_random_uuid(), 'x'); COMMIT"
    )))
    .execute(&mut chat)
    .await
    .unwrap();
    assert_eq!(instance.database.observe_tenant(&id, ReadPurpose::Deleting).await.unwrap().open_transactions, 0);
    instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
}

async fn other_database(version: PgVersion) {
    let instance = super::setup::bootstrapped(version).await;
    let id = tenant_id("acme");
    let error = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap_err();
    assert_eq!(error.kind, PgErrorKind::NoControlSchema);
    let wanted = instance.provision(&id);
    let error =
        instance.database.perform_provision(&wanted, &object("acme"), instance.id, &instance.fence).await.unwrap_err();
    assert_eq!((error.kind, error.class), (PgErrorKind::NoControlSchema, ErrorClass::Conflict));
    // The mark contains the database id: the same incarnation in another database is foreign.
    let real = in_use(version).await;
    let (_, owner, row) = real.tenant("acme").await;
    let wrong = agent_tenancy::domain::ident::DatabaseId(Uuid::new_v4());
    let refused = real.database.perform_close(&drop_it(row, "acme"), &owner, wrong, &real.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC02"));
}
