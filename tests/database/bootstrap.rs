//! The files that an administrator runs, as managed servers let them: as the owner of the database, who is no superuser, or
//! as a member of the group that owns it.

use super::setup::{
    CELL_PASSWORD, CLUSTER, Instance, Steps, bare, bootstrapped, by, cell_login, connect, in_use, on_both,
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::ident::CellNumber,
    plan::{
        instance::preflight::{InstancePlan, plan_instance},
        step::CloseDatabase,
    },
};
use devkit::PgVersion;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

on_both!(
    an_owner_bootstraps,
    a_member_of_the_owning_group_bootstraps,
    a_superuser_hands_over,
    other_logins,
    large_objects_go_with_their_tenant,
    the_file_for_pgbouncer,
);

const PGBOUNCER: &str = include_str!("../../config/sql/pgbouncer.sql");

/// Makes the control schema, a cell and a tenant, on whatever was bootstrapped.
async fn use_it(instance: &mut Instance) {
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    assert_eq!(plan_instance(&facts, &instance.prefix, None), InstancePlan::CreateControlSchema, "{facts:?}");
    instance.database.perform_migrate_control().await.unwrap();
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    let plan = plan_instance(&facts, &instance.prefix, None);
    let InstancePlan::Fit { database_id, warnings } = plan else { panic!("{plan:?}") };
    assert!(warnings.iter().any(|w| w.contains("large objects")) == facts.public_large_objects, "{warnings:?}");
    instance.id = database_id;
    instance.database.perform_raise_epoch(CLUSTER, instance.fence.epoch).await.unwrap();
    instance.database.perform_create_cell(CellNumber(1), &cell_login(), &by(&instance.fence)).await.unwrap();
    let (_, _, row) = instance.tenant("acme").await;
    let reads = format!("BEGIN; SET LOCAL ROLE \"{0}\"; SELECT count(*) FROM \"{0}\".messages; COMMIT", row.schema);
    assert_eq!(instance.as_access(1, &reads).await, Ok(()));
}

/// Runs a text as a login; the error is the server's, with its hint.
async fn run_as(instance: &Instance, login: &str, text: &str) -> Result<(), String> {
    let mut connection = connect(&instance.test.url(login, CELL_PASSWORD)).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.map(drop).map_err(|error| {
        let sqlx::Error::Database(error) = error else { panic!("{error}") };
        let server = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
        format!("{} {}", server.message(), server.hint().unwrap_or_default())
    })
}

async fn login(instance: &Instance, name: &str, attributes: &str) -> String {
    let name = format!("{name}_{}", instance.prefix);
    instance.as_admin(&format!("CREATE ROLE {name} LOGIN {attributes} PASSWORD '{CELL_PASSWORD}'")).await;
    name
}

async fn an_owner_bootstraps(version: PgVersion) {
    let mut instance = bare(version).await;
    let text = instance.test.bootstrap_text();
    for _ in 0..2 {
        instance.test.execute_as_administrator(&text).await.unwrap();
    }
    use_it(&mut instance).await;
    instance.test.execute_as_administrator(&text).await.unwrap();
    // The owner can hand it on, also on 15, where nobody has ADMIN by itself: pg_upgrade would leave none.
    let administrator = instance.test.administrator();
    for role in ["base", "operator_a", "operator_b"] {
        let admin = format!(
            "SELECT count(*) FROM pg_auth_members WHERE roleid = '\"{}_{role}\"'::regrole AND admin_option \
             AND member = '\"{administrator}\"'::regrole",
            instance.prefix
        );
        assert_eq!(instance.count(&admin).await, 1, "{role}");
    }

    let stranger = login(&instance, "stranger", "CREATEROLE").await;
    instance.as_admin(&format!("GRANT CONNECT ON DATABASE \"{}\" TO {stranger}", instance.test.name)).await;
    let refused = run_as(&instance, &stranger, &text).await.unwrap_err();
    assert!(refused.contains(&format!("belongs to {administrator}")) && refused.contains("superuser"), "{refused}");
    instance.as_admin(&format!("ALTER ROLE {administrator} NOCREATEROLE")).await;
    let refused = instance.test.execute_as_administrator(&text).await.unwrap_err();
    assert!(refused.to_string().contains("may not make roles"), "{refused:#}");
}

async fn a_member_of_the_owning_group_bootstraps(version: PgVersion) {
    let mut instance = bare(version).await;
    let (p, db) = (instance.prefix.clone(), instance.test.name.clone());
    let member = login(&instance, "member", "CREATEROLE").await;
    instance
        .as_admin(&format!(
            "CREATE ROLE group_{p} CREATEROLE; GRANT group_{p} TO {member}; ALTER DATABASE \"{db}\" OWNER TO group_{p}"
        ))
        .await;
    let text = instance.test.bootstrap_text();
    for _ in 0..2 {
        assert_eq!(run_as(&instance, &member, &text).await, Ok(()));
    }
    use_it(&mut instance).await;
    // From 16 on another member needs ADMIN, and the file says how they get it.
    let second = login(&instance, "second", "CREATEROLE").await;
    instance.as_admin(&format!("GRANT group_{p} TO {second}")).await;
    let refused = run_as(&instance, &second, &text).await;
    if version == PgVersion::V15 {
        return assert_eq!(refused, Ok(()));
    }
    let refused = refused.unwrap_err();
    let statement = format!("GRANT {p}_base, {p}_operator_a, {p}_operator_b TO {second}");
    assert!(refused.contains("no ADMIN option") && refused.contains(&statement), "{refused}");
    assert!(refused.contains(&format!("As {member}, or as a superuser run")), "{refused}");
    let (_, grant) = refused.split_once("run: ").unwrap();
    assert_eq!(run_as(&instance, &member, grant).await, Ok(()));
    assert_eq!(run_as(&instance, &second, &text).await, Ok(()));
}

async fn a_superuser_hands_over(version: PgVersion) {
    let mut instance = bare(version).await;
    let text = instance.test.bootstrap_text();
    instance.as_admin(&text).await;
    use_it(&mut instance).await;
    // To the owner, unless another one is named.
    instance.test.execute_as_administrator(&text).await.unwrap();
    let named = login(&instance, "named", "CREATEROLE").await;
    let administrator = instance.test.administrator();
    instance.as_admin(&format!("GRANT {administrator} TO {named}")).await;
    instance.as_admin(&format!("SET agent_tenancy.administrator = '{named}'; {text}")).await;
    assert_eq!(run_as(&instance, &named, &text).await, Ok(()));
    let mut admin = instance.admin().await;
    let missing = format!("SET agent_tenancy.administrator = 'nobody-{}'; {text}", instance.prefix);
    let refused = sqlx::raw_sql(AssertSqlSafe(missing)).execute(&mut admin).await.unwrap_err();
    assert!(refused.to_string().contains("there is no role"), "{refused}");
}

/// A pooler that others manage keeps what it needs; a login that is not used here loses CONNECT.
async fn other_logins(version: PgVersion) {
    let instance = bare(version).await;
    let mut logins = Vec::new();
    for name in ["connected", "granted", "named", "unused"] {
        logins.push(login(&instance, name, "").await);
    }
    let [connected, granted, named, unused] = <[String; 4]>::try_from(logins).unwrap();
    let open = connect(&instance.test.url(&connected, CELL_PASSWORD)).await.unwrap();
    instance.as_admin(&format!("CREATE SCHEMA pooler; GRANT USAGE ON SCHEMA pooler TO {granted}")).await;
    let text = instance.test.bootstrap_text();
    let keep = format!("SET agent_tenancy.keep_connect = 'other, {named}'; {text}");
    instance.test.execute_as_administrator(&keep).await.unwrap();
    open.close().await.unwrap();
    instance.test.execute_as_administrator(&text).await.unwrap();
    for (login, keeps) in [(&connected, true), (&granted, true), (&named, true), (&unused, false)] {
        let tried = PgConnection::connect(&instance.test.url(login, CELL_PASSWORD)).await;
        assert_eq!(tried.is_ok(), keeps, "{login}");
        let uses = format!("SELECT has_schema_privilege('{login}', 'public', 'USAGE')::int::bigint");
        assert_eq!(instance.count(&uses).await, i64::from(keeps), "{login}");
    }
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    assert_eq!(plan_instance(&facts, &instance.prefix, None), InstancePlan::CreateControlSchema, "{facts:?}");
}

async fn large_objects_go_with_their_tenant(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner, row) = instance.tenant("acme").await;
    let make = format!("BEGIN; SET LOCAL ROLE \"{}\"; SELECT lo_from_bytea(0, 'x'); COMMIT", row.role);
    assert_eq!(instance.as_access(1, &make).await, Ok(()), "only a superuser could refuse it");
    assert_eq!(instance.count("SELECT count(*) FROM pg_largeobject_metadata").await, 1);
    let close = CloseDatabase {
        tenant_id: id,
        policy: DeletionPolicy::Delete,
        incarnation: row.incarnation,
        row: Some(row.clone()),
        replaces: None,
        archive_seconds: 60,
    };
    instance.database.perform_close(&close, &owner, instance.id, &instance.fence).await.unwrap();
    assert_eq!(instance.count("SELECT count(*) FROM pg_largeobject_metadata").await, 0);
    assert_eq!(instance.count(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", row.role)).await, 0);
}

async fn the_file_for_pgbouncer(version: PgVersion) {
    let instance = bootstrapped(version).await;
    let (p, administrator) = (&instance.prefix, instance.test.administrator());
    let text = format!(
        "SET agent_tenancy.prefix = '{p}'; SET agent_tenancy.pgbouncer_password = '{CELL_PASSWORD}'; {PGBOUNCER}"
    );
    let refused = instance.test.execute_as_administrator(&text).await.unwrap_err();
    assert!(refused.to_string().contains("may not read pg_authid"), "{refused:#}");
    instance.as_admin(&format!("GRANT SELECT ON pg_catalog.pg_authid TO {administrator}")).await;
    for _ in 0..2 {
        instance.test.execute_as_administrator(&text).await.unwrap();
    }
    let mut auth = connect(&instance.test.url(&format!("{p}_pgbouncer_auth"), CELL_PASSWORD)).await.unwrap();
    let ask = format!("SELECT passwd FROM {p}_pgbouncer_auth.lookup('{p}_operator_a') WHERE passwd LIKE 'SCRAM%'");
    assert_eq!(sqlx::raw_sql(AssertSqlSafe(ask)).fetch_all(&mut auth).await.unwrap().len(), 1);

    // A superuser's run hands over the login, and says who owns the function.
    let other = bootstrapped(version).await;
    let text = text.replace(p.as_str(), other.prefix.as_str());
    other.as_admin(&text).await;
    other.as_admin(&format!("GRANT SELECT ON pg_catalog.pg_authid TO {}", other.test.administrator())).await;
    let refused = other.test.execute_as_administrator(&text).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to postgres"), "{refused:#}");
}
