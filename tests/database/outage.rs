//! A server that stops and starts again, and one that is replaced by an empty one.

use super::setup::{CLUSTER, OPERATOR_PASSWORD, Steps, bare_on, in_use_on, object, tenant_id};
use agent_tenancy::{
    domain::{class::ErrorClass, migrations::render_bootstrap},
    effects::postgres::{PgErrorKind, ReadPurpose},
    plan::instance::preflight::{InstancePlan, plan_instance},
};
use devkit::{PgVersion, Postgres};

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
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
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
