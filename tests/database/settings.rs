//! The database's own settings: what is needed is a finding of preflight, and the rest works as everywhere.

use super::setup::{CLUSTER, Instance, Steps, bootstrapped, in_use, is_intact, object, on_both, tenant_id};
use agent_tenancy::{
    domain::class::ErrorClass,
    effects::postgres::ReadPurpose,
    plan::instance::preflight::{InstancePlan, plan_instance},
};
use devkit::PgVersion;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

on_both!(another_encoding_is_a_finding, settings_of_the_database_change_nothing, event_triggers_are_named);

async fn plan(instance: &Instance) -> InstancePlan {
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    plan_instance(&facts, &instance.prefix, None)
}

async fn another_encoding_is_a_finding(version: PgVersion) {
    let instance = bootstrapped(version).await;
    let name = &instance.test.name;
    let owner = instance.test.administrator();
    instance.test.drop_now().await.unwrap();
    let url = instance.test.superuser_url();
    let mut admin = PgConnection::connect(&url.replace(&format!("/{name}"), "/postgres")).await.unwrap();
    let create = format!("CREATE DATABASE \"{name}\" OWNER {owner} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    let refused = instance.test.bootstrap().await.unwrap_err();
    assert!(format!("{refused:#}").contains("has encoding LATIN1; agent-tenancy needs UTF8"), "{refused:#}");
    // One that was prepared all the same.
    let mut facts = bootstrapped(version).await.database.observe_instance(CLUSTER).await.unwrap();
    assert_eq!(facts.encoding, "UTF8");
    facts.encoding = "LATIN1".to_owned();
    let InstancePlan::Unfit { findings } = plan_instance(&facts, &instance.prefix, None) else { panic!() };
    assert!(findings.iter().any(|f| f.contains("encoding LATIN1") && f.contains("UTF8")), "{findings:?}");
}

async fn settings_of_the_database_change_nothing(version: PgVersion) {
    let mut instance = bootstrapped(version).await;
    let (name, p) = (instance.test.name.clone(), instance.prefix.clone());
    let mut settings = vec![
        ("default_transaction_isolation", "serializable"),
        ("synchronous_commit", "off"),
        ("search_path", "nowhere"),
        ("default_transaction_deferrable", "on"),
        ("standard_conforming_strings", "off"),
        ("bytea_output", "escape"),
        ("DateStyle", "German"),
        ("IntervalStyle", "sql_standard"),
        ("TimeZone", "Asia/Kathmandu"),
        ("check_function_bodies", "off"),
    ];
    if version != PgVersion::V15 {
        settings.push(("createrole_self_grant", "set, inherit"));
    }
    for (setting, value) in settings {
        instance.as_admin(&format!("ALTER DATABASE \"{name}\" SET {setting} = '{value}'")).await;
    }
    instance.test.bootstrap().await.unwrap();
    instance.take_into_use().await;
    let (id, _, row) = instance.tenant("acme").await;
    let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert!(is_intact(&facts), "{facts:?}");
    assert_eq!(instance.database.observe_drift(CLUSTER).await.unwrap(), []);
    // Eight at once don't meet serialisation failures.
    let ids: Vec<_> = (0..8).map(|n| tenant_id(&format!("t{n}"))).collect();
    let made = ids.iter().map(|id| async {
        instance
            .database
            .perform_provision(&instance.provision(id), &object(id.as_str()), instance.id, &instance.fence)
            .await
    });
    for made in futures::future::join_all(made).await {
        made.unwrap();
    }
    instance.database.perform_suspend_access(&row, &instance.fence).await.unwrap();
    instance.database.perform_resume_access(&instance.row(&id).await, &instance.fence).await.unwrap();
    let memberships = format!(
        "SELECT count(*) FROM pg_auth_members WHERE member = '{p}_base'::regrole AND grantor = '{p}_base'::regrole \
         AND roleid <> '{p}_own_1'::regrole AND NOT admin_option"
    );
    assert_eq!(instance.count(&memberships).await, 0, "base grants itself no more than on other servers");
}

async fn event_triggers_are_named(version: PgVersion) {
    let instance = in_use(version).await;
    instance
        .as_admin(
            "CREATE SCHEMA policy; CREATE FUNCTION policy.no_schemas() RETURNS event_trigger LANGUAGE plpgsql AS \
             $$BEGIN RAISE EXCEPTION 'schemas are made by the database team'; END$$; \
             CREATE EVENT TRIGGER no_schemas ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') \
             EXECUTE FUNCTION policy.no_schemas()",
        )
        .await;
    let InstancePlan::Fit { warnings, .. } = plan(&instance).await else { panic!() };
    assert!(warnings.iter().any(|w| w.contains("event triggers") && w.contains("no_schemas")), "{warnings:?}");
    let wanted = instance.provision(&tenant_id("acme"));
    let refused =
        instance.database.perform_provision(&wanted, &object("acme"), instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused:?}");
    assert!(refused.note.contains("schemas are made by the database team"), "{refused}");
    assert!(refused.note.contains("policy.no_schemas()"), "it says who refused: {refused}");
}
