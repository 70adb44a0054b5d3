//! What a tenant's role and the agent API's login can't do, and what the operator's login can't do as itself.

use super::setup::{CELL_PASSWORD, in_use, on_both};
use devkit::PgVersion;
use sqlx::{Connection, PgConnection};

on_both!(tenants_are_apart, logins_are_nobody, passwords_log_in);

const DENIED: &str = "42501";

async fn tenants_are_apart(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, one) = instance.tenant("one").await;
    let (_, _, two) = instance.tenant("two").await;
    let (a, b, p) = (&one.schema, &two.schema, &instance.prefix);
    let as_tenant = |sql: String| format!("BEGIN; SET LOCAL ROLE \"{a}\"; {sql}; COMMIT");
    assert_eq!(instance.as_access(1, &as_tenant(format!("SELECT count(*) FROM \"{a}\".messages"))).await, Ok(()));
    for sql in [
        format!("SELECT count(*) FROM \"{b}\".messages"),
        format!("INSERT INTO \"{b}\".conversations (id, sub) VALUES (gen_random_uuid(), 'x')"),
        format!("CREATE TABLE \"{a}\".mine (n int)"),
        "CREATE TEMP TABLE messages (n int)".to_owned(),
        "CREATE TABLE public.mine (n int)".to_owned(),
        "CREATE SCHEMA mine".to_owned(),
        format!("ALTER TABLE \"{a}\".messages DISABLE TRIGGER ALL"),
        format!("TRUNCATE \"{a}\".messages"),
        format!("DELETE FROM \"{a}\".usage"),
        "SELECT count(*) FROM agent_tenancy.tenants".to_owned(),
        format!("SELECT agent_tenancy.fence('{}', 1)", instance.fence.cluster_id),
        "CREATE ROLE mine".to_owned(),
        format!("SET LOCAL ROLE \"{p}_own_1\""),
        format!("SET LOCAL ROLE \"{p}_base\""),
    ] {
        assert_eq!(instance.as_access(1, &as_tenant(sql.clone())).await, Err(DENIED.into()), "{sql}");
    }
    // Only a superuser can take large objects from every role.
    instance.as_admin(&instance.test.bootstrap_text()).await;
    for sql in ["SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')"] {
        assert_eq!(instance.as_access(1, &as_tenant(sql.to_owned())).await, Err(DENIED.into()), "{sql}");
    }
    // A GRANT on an object of another owner is only a warning and has no effect.
    let grant = as_tenant(format!("GRANT ALL ON \"{a}\".messages TO PUBLIC"));
    assert!(instance.as_access(1, &grant).await.is_ok_and(|()| true));
    let public =
        format!("SELECT count(*) FROM pg_class WHERE oid = '\"{a}\".messages'::regclass AND relacl::text ~ '[{{,]='");
    assert_eq!(instance.count(&public).await, 0);
    // The login of another cell is refused as well.
    instance.make_cell(2).await;
    assert_eq!(instance.as_access(2, &as_tenant("SELECT 1".into())).await, Err(DENIED.into()));
}

async fn logins_are_nobody(version: PgVersion) {
    let instance = in_use(version).await;
    let (_, _, row) = instance.tenant("one").await;
    let (a, p) = (&row.schema, &instance.prefix);
    for sql in [
        format!("SELECT count(*) FROM \"{a}\".messages"),
        // The access group may become a tenant; it has no privileges of its own.
        format!("BEGIN; SET LOCAL ROLE \"{p}_acc_1\"; SELECT count(*) FROM \"{a}\".messages; COMMIT"),
        "SELECT count(*) FROM agent_tenancy.tenants".to_owned(),
        "CREATE TEMP TABLE t (n int)".to_owned(),
        "CREATE SCHEMA mine".to_owned(),
        format!("SET ROLE \"{p}_own_1\""),
        format!("ALTER ROLE \"{p}_acc_1_b\" PASSWORD 'x'"),
    ] {
        assert_eq!(instance.as_access(1, &sql).await, Err(DENIED.into()), "{sql}");
    }
    let url = instance.test.url(&format!("{p}_operator_a"), super::setup::OPERATOR_PASSWORD);
    for sql in [
        "SELECT count(*) FROM agent_tenancy.tenants",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE TEMP TABLE t (n int)",
    ] {
        let mut operator = PgConnection::connect(&url).await.unwrap();
        let error = sqlx::raw_sql(sql).execute(&mut operator).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some(DENIED), "{sql}");
    }
}

async fn passwords_log_in(version: PgVersion) {
    let instance = in_use(version).await;
    assert_eq!(instance.as_access(1, "SELECT 1").await, Ok(()));
    let login = format!("{}_acc_1_a", instance.prefix);
    assert!(PgConnection::connect(&instance.test.url(&login, "wrong")).await.is_err());
    // The server has the verifier only, not the password.
    let stored = format!(
        "SELECT count(*) FROM pg_authid WHERE rolname = '{login}' AND rolpassword LIKE 'SCRAM-SHA-256$4096:%' \
         AND position('{CELL_PASSWORD}' IN rolpassword) = 0"
    );
    assert_eq!(instance.count(&stored).await, 1);
    let other =
        format!("SELECT count(*) FROM pg_authid WHERE rolname = '{}_acc_1_b' AND rolpassword IS NULL", instance.prefix);
    assert_eq!(instance.count(&other).await, 1, "the login for rotation can't be used yet");
}
