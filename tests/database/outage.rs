//! A server that stops and starts again, and one that is replaced by an empty one.

use super::setup::{CLUSTER, OPERATOR_PASSWORD, Steps, bare_on, in_use_on, object, tenant_id};
use agent_tenancy::{
    domain::{class::ErrorClass, migrations::render_bootstrap},
    effects::postgres::{PgErrorKind, ReadPurpose},
    plan::instance::preflight::{InstancePlan, plan_instance},
};
use devkit::{PgVersion, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_used_again_at_once() {
    let server = Postgres::start(PgVersion::OLDEST).await.unwrap();
    let instance = in_use_on(&server).await;
    let (id, owner, row) = instance.tenant("acme").await;
    // Several connections, all of which break.
    let reads = (0..8).map(|_| instance.database.observe_tenant(&id, ReadPurpose::Serving));
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));

    server.stop_immediate().await.unwrap();
    let away = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap_err();
    assert_eq!((away.class, away.kind), (ErrorClass::Transient, PgErrorKind::Unreachable), "{away:?}");
    let wanted = instance.provision(&tenant_id("next"));
    let step = instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(step.class, ErrorClass::Transient);

    server.start_again().await.unwrap();
    let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert_eq!(facts.row.unwrap().incarnation, row.incarnation);
    instance.database.perform_provision(&wanted, &object("next"), instance.id, &instance.fence).await.unwrap();

    // Killed while connections are idle: the next read succeeds.
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    assert!(instance.database.observe_tenant(&id, ReadPurpose::Serving).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_server_in_place_of_the_real_one_gets_nothing() {
    let server = Postgres::start(PgVersion::OLDEST).await.unwrap();
    let instance = in_use_on(&server).await;
    let (id, _, row) = instance.tenant("acme").await;
    server.replace_with_empty_cluster().await.unwrap();

    // The empty server has no login for the operator.
    let refused = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap_err();
    assert_eq!((refused.class, refused.kind), (ErrorClass::Denied, PgErrorKind::Unreachable), "{refused:?}");
    // Bootstrapped under the old names, it is still another database.
    let empty = bare_on(&server).await;
    let mut admin = empty.admin().await;
    let create = format!("CREATE DATABASE \"{}\"", instance.test.name);
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    instance.as_admin(&render_bootstrap(&instance.prefix, OPERATOR_PASSWORD).unwrap()).await;
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    let plan = plan_instance(&facts, &instance.prefix, Some(instance.id));
    assert_eq!(plan, InstancePlan::Changed { expected: instance.id, found: None });
    let error = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap_err();
    assert_eq!(error.kind, PgErrorKind::NoControlSchema);
    assert_eq!(instance.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'agent_tenancy'").await, 0);

    server.put_back_cluster().await.unwrap();
    let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert_eq!((facts.database_id, facts.row), (instance.id, Some(row)));
}

/// A primary that became a standby answers, but what it lacks is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_primary_is_an_outage_and_nothing_is_lost() {
    for version in [PgVersion::OLDEST, PgVersion::NEWEST] {
        let server = Postgres::start(version).await.unwrap();
        let instance = in_use_on(&server).await;
        let (id, owner, row) = instance.tenant("acme").await;
        server.demote().await.unwrap();
        for tenant in [&id, &tenant_id("never-there")] {
            let error = instance.database.observe_tenant(tenant, ReadPurpose::Serving).await.unwrap_err();
            assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Unwritable), "{error:?}");
        }
        let error = instance.database.observe_instance(CLUSTER).await.unwrap_err();
        assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Unwritable), "{error:?}");
        let wanted = instance.provision(&tenant_id("next"));
        let error =
            instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Unwritable), "{error:?}");
        // Promoted again, it is used at once: no connection of before is kept.
        let mut admin = PgConnection::connect(&server.superuser_url("postgres")).await.unwrap();
        sqlx::raw_sql("SELECT pg_promote()").execute(&mut admin).await.unwrap();
        let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!(facts.row.unwrap().incarnation, row.incarnation);
        instance.database.perform_provision(&wanted, &object("next"), instance.id, &instance.fence).await.unwrap();
    }
}

/// A database that takes no writes, and a full disk: outages, and the connections that met them are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_an_outage() {
    let server = Postgres::start(PgVersion::NEWEST).await.unwrap();
    let instance = in_use_on(&server).await;
    let (_, _, row) = instance.tenant("acme").await;
    let p = &instance.prefix;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE '%operator%'";
    instance.as_admin(&format!("ALTER ROLE {p}_operator_a SET default_transaction_read_only = on; {end}")).await;
    let error = instance.database.perform_suspend_access(&row, &instance.fence).await.unwrap_err();
    assert_eq!((error.class, error.sqlstate.as_deref()), (ErrorClass::Transient, Some("57P01")), "{error:?}");
    let error = instance.database.perform_suspend_access(&row, &instance.fence).await.unwrap_err();
    assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Unwritable), "{error:?}");
    instance.as_admin(&format!("ALTER ROLE {p}_operator_a RESET default_transaction_read_only")).await;
    instance.database.perform_suspend_access(&row, &instance.fence).await.unwrap();

    instance
        .as_admin(
            "CREATE FUNCTION agent_tenancy.full() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$; \
             CREATE TRIGGER full_disk BEFORE UPDATE ON agent_tenancy.tenants EXECUTE FUNCTION agent_tenancy.full()",
        )
        .await;
    let error = instance.database.perform_resume_access(&row, &instance.fence).await.unwrap_err();
    assert_eq!((error.class, error.kind), (ErrorClass::Transient, PgErrorKind::Unwritable), "{error:?}");
    instance.as_admin("DROP TRIGGER full_disk ON agent_tenancy.tenants").await;
    instance.database.perform_resume_access(&row, &instance.fence).await.unwrap();
}
