//! Preflight of a badly set-up database: each finding names the fault and the statement that repairs it.

use super::setup::{CLUSTER, Instance, OPERATOR_PASSWORD, bare, bootstrapped, in_use, on_both, tenant_id};
use agent_tenancy::{
    domain::{
        class::ErrorClass,
        ident::DatabaseId,
        migrations::{CONTROL, bootstrap_login, render_bootstrap},
    },
    effects::postgres::PgErrorKind,
    plan::{
        instance::preflight::{InstancePlan, plan_instance},
        observed::applied::Applied,
    },
};
use devkit::PgVersion;
use uuid::Uuid;

on_both!(each_fault_is_named, nobody_prepared_it, bootstrap_twice, changed_database, versions, an_older_control_schema);

/// A control schema of the first version is migrated, with its tenants.
async fn an_older_control_schema(version: PgVersion) {
    let instance = bootstrapped(version).await;
    let first = &CONTROL[0];
    instance
        .as_admin(&format!(
            "SET ROLE \"{p}_base\"; SET search_path = pg_catalog; CREATE SCHEMA agent_tenancy; {sql} \
             INSERT INTO agent_tenancy.migrations (version, checksum) VALUES (1, '{sum}'); \
             INSERT INTO agent_tenancy.cells VALUES (1, '{p}_own_1', '{p}_acc_1', 'a', 'b'); \
             INSERT INTO agent_tenancy.tenants (tenant_id, incarnation, uid, namespace, name, cluster_id, epoch, cell, \
                schema_name, role_name, schema_version, ring_version, ring_digest, state) \
             VALUES ('acme', gen_random_uuid(), 'u', 'team', 'acme', '{CLUSTER}', 1, 1, '{p}_acme', '{p}_acme', 1, 1, \
                'd', 'active');",
            p = instance.prefix,
            sql = first.sql,
            sum = first.checksum(),
        ))
        .await;
    assert_eq!(plan(&instance, None).await, InstancePlan::MigrateControlSchema);
    for _ in 0..2 {
        instance.database.perform_migrate_control().await.unwrap();
        let plan = plan(&instance, None).await;
        assert!(matches!(plan, InstancePlan::Fit { .. }), "{plan:?}");
    }
    let row = instance.row(&tenant_id("acme")).await;
    assert_eq!((row.schema_version, row.schema_checksums, row.own), (1, vec![], Applied::default()));
}

async fn plan(instance: &Instance, expected: Option<DatabaseId>) -> InstancePlan {
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    plan_instance(&facts, &instance.prefix, expected)
}

async fn each_fault_is_named(version: PgVersion) {
    let instance = in_use(version).await;
    let (db, p) = (&instance.test.name, &instance.prefix);
    let new = version != PgVersion::V15;
    let inherit = |yes: &str| {
        if new {
            format!("GRANT \"{p}_base\" TO \"{p}_operator_a\" WITH INHERIT {yes}")
        } else {
            format!("ALTER ROLE \"{p}_operator_a\" {}INHERIT", if yes == "TRUE" { "" } else { "NO" })
        }
    };
    let (inherits, inherits_not) = (inherit("TRUE"), inherit("FALSE"));
    for (harm, repair, named) in [
        (
            format!("GRANT CONNECT ON DATABASE \"{db}\" TO PUBLIC"),
            format!("REVOKE CONNECT ON DATABASE \"{db}\" FROM PUBLIC"),
            "every role has CONNECT",
        ),
        (
            format!("GRANT TEMP ON DATABASE \"{db}\" TO PUBLIC"),
            format!("REVOKE TEMPORARY ON DATABASE \"{db}\" FROM PUBLIC"),
            "every role has TEMPORARY",
        ),
        (
            format!("GRANT CREATE ON DATABASE \"{db}\" TO PUBLIC"),
            format!("REVOKE CREATE ON DATABASE \"{db}\" FROM PUBLIC"),
            "every role has CREATE",
        ),
        (
            "GRANT USAGE ON SCHEMA public TO PUBLIC".into(),
            "REVOKE ALL ON SCHEMA public FROM PUBLIC".into(),
            "schema public",
        ),
        (
            format!("ALTER ROLE \"{p}_base\" NOCREATEROLE"),
            format!("ALTER ROLE \"{p}_base\" CREATEROLE"),
            "may not make roles",
        ),
        (
            format!("ALTER ROLE \"{p}_base\" SUPERUSER"),
            format!("ALTER ROLE \"{p}_base\" NOSUPERUSER"),
            "is a superuser",
        ),
        (format!("ALTER ROLE \"{p}_base\" LOGIN"), format!("ALTER ROLE \"{p}_base\" NOLOGIN"), "may log in"),
        (
            format!("ALTER ROLE \"{p}_operator_a\" SUPERUSER"),
            format!("ALTER ROLE \"{p}_operator_a\" NOSUPERUSER"),
            "logs in as the superuser",
        ),
        (
            format!("ALTER ROLE \"{p}_operator_a\" CREATEROLE"),
            format!("ALTER ROLE \"{p}_operator_a\" NOCREATEROLE"),
            "may make roles itself",
        ),
        (inherits, inherits_not, "inherits the privileges"),
        (
            format!("REVOKE GRANT OPTION FOR CONNECT ON DATABASE \"{db}\" FROM \"{p}_base\" CASCADE"),
            format!("GRANT CONNECT ON DATABASE \"{db}\" TO \"{p}_base\" WITH GRANT OPTION"),
            "may not grant CONNECT",
        ),
        (
            format!("REVOKE CREATE ON DATABASE \"{db}\" FROM \"{p}_base\" CASCADE"),
            format!("GRANT CREATE ON DATABASE \"{db}\" TO \"{p}_base\" WITH GRANT OPTION"),
            "may not grant CREATE",
        ),
        (
            "ALTER SCHEMA agent_tenancy OWNER TO postgres".into(),
            format!("ALTER SCHEMA agent_tenancy OWNER TO \"{p}_base\""),
            "belongs to postgres",
        ),
        (
            "UPDATE agent_tenancy.migrations SET checksum = 'x' WHERE version = 1".into(),
            format!(
                "UPDATE agent_tenancy.migrations SET checksum = '{}' WHERE version = 1",
                agent_tenancy::domain::migrations::CONTROL[0].checksum()
            ),
            "is not this program's",
        ),
        (
            "INSERT INTO agent_tenancy.migrations VALUES (99, 'x')".into(),
            "DELETE FROM agent_tenancy.migrations WHERE version = 99".into(),
            "run a newer version",
        ),
    ] {
        instance.as_admin(&harm).await;
        // Only what nothing works with takes an instance out of use that was fit before.
        let stops = ["belongs to postgres", "is not this program's", "run a newer version"].contains(&named);
        for new in [false, true] {
            let mut facts = instance.database.observe_instance(CLUSTER).await.unwrap();
            if let Some(control) = facts.control.as_mut().filter(|_| new) {
                control.epoch = None;
            }
            let found = match plan_instance(&facts, &instance.prefix, None) {
                InstancePlan::Unfit { findings } if new || stops => findings,
                InstancePlan::Fit { warnings, .. } if !new && !stops => warnings,
                other => panic!("{harm}: {other:?}"),
            };
            assert!(found.iter().any(|f| f.contains(named)), "{harm}: {found:?}");
        }
        instance.as_admin(&repair).await;
        let InstancePlan::Fit { warnings, .. } = plan(&instance, None).await else { panic!("not repaired: {repair}") };
        assert!(!warnings.iter().any(|f| f.contains(named)), "not repaired: {repair}: {warnings:?}");
    }
    // Only a warning: managed services don't allow changing it.
    instance.as_admin("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC").await;
    let InstancePlan::Fit { warnings, .. } = plan(&instance, None).await else { panic!() };
    assert!(warnings.iter().any(|w| w.contains("large objects")), "{warnings:?}");
    assert_eq!(warnings.iter().any(|w| w.contains("PostgreSQL 15")), version == PgVersion::V15);
}

async fn nobody_prepared_it(version: PgVersion) {
    let instance = bare(version).await;
    let error = instance.database.observe_instance(CLUSTER).await.unwrap_err();
    assert_eq!((error.class, error.kind), (ErrorClass::Denied, PgErrorKind::Unreachable), "{error:?}");
    assert!(!error.to_string().contains(OPERATOR_PASSWORD));
    // The login alone is not enough.
    let login = bootstrap_login(&instance.prefix);
    instance.as_admin(&format!("CREATE ROLE \"{login}\" LOGIN PASSWORD '{OPERATOR_PASSWORD}'")).await;
    let InstancePlan::Unfit { findings } = plan(&instance, None).await else { panic!() };
    assert!(findings.iter().any(|f| f.contains("_base does not exist") && f.contains("bootstrap")), "{findings:?}");
    // The bootstrap completes it.
    instance.as_admin(&render_bootstrap(&instance.prefix, OPERATOR_PASSWORD).unwrap()).await;
    assert_eq!(plan(&instance, None).await, InstancePlan::CreateControlSchema);
}

async fn bootstrap_twice(version: PgVersion) {
    let instance = in_use(version).await;
    instance.tenant("acme").await;
    let text = render_bootstrap(&instance.prefix, "it's \\ new").unwrap();
    instance.as_admin(&text).await;
    assert!(
        matches!(plan(&instance, Some(instance.id)).await, InstancePlan::Fit { .. }),
        "open connections keep working"
    );
    for bad in ["A", "pgx", "1a", "abcdefghijk", "a_b"] {
        let script = format!("SET agent_tenancy.prefix = '{bad}';{}", agent_tenancy::domain::migrations::BOOTSTRAP);
        let mut admin = instance.admin().await;
        assert!(sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut admin).await.is_err(), "{bad}");
    }
}

async fn changed_database(version: PgVersion) {
    let empty = bootstrapped(version).await;
    let expected = DatabaseId(Uuid::new_v4());
    assert_eq!(plan(&empty, Some(expected)).await, InstancePlan::Changed { expected, found: None });
    let other = in_use(version).await;
    assert_eq!(plan(&other, Some(expected)).await, InstancePlan::Changed { expected, found: Some(other.id) });
    assert!(matches!(plan(&other, Some(other.id)).await, InstancePlan::Fit { .. }));
}

async fn versions(version: PgVersion) {
    let instance = bootstrapped(version).await;
    let mut facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    assert_eq!(facts.server_version / 10_000, version.major() as i32);
    facts.server_version = 140_009;
    let InstancePlan::Unfit { findings } = plan_instance(&facts, &instance.prefix, None) else { panic!() };
    assert_eq!(findings, ["the server is PostgreSQL 14; 15 or later is needed"]);
}
