//! What an administrator does to a whole server or database: an upgrade of Postgres, and a restore. The cells work afterwards, or
//! preflight says what to do.

use super::{
    life::write_a_message,
    setup::{CLUSTER, Instance, Steps, in_use, in_use_on, is_intact, is_member, object, on_both, tenant_id},
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        class::ErrorClass,
        ident::{CellNumber, LoginId, TenantId},
        keys::KeyBytes,
        logins::{LoginRequests, LoginSlot, NextLogin},
    },
    effects::postgres::{Database, ReadPurpose},
    plan::{
        instance::preflight::{InstancePlan, plan_instance},
        observed::LedgerRow,
        step::CloseDatabase,
    },
};
use devkit::{PgVersion, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

on_both!(a_restored_database_works_again);

/// What preflight says of an instance that can be used.
async fn warnings(instance: &Instance) -> Vec<String> {
    let facts = instance.database.observe_instance(CLUSTER).await.unwrap();
    match plan_instance(&facts, &instance.prefix, Some(instance.id)) {
        InstancePlan::Fit { warnings, .. } => warnings,
        other => panic!("{other:?}"),
    }
}

/// Whether the agent API's login reaches a tenant's data.
async fn reaches(instance: &Instance, row: &LedgerRow) -> bool {
    let read = format!("BEGIN; SET LOCAL ROLE \"{0}\"; SELECT count(*) FROM \"{0}\".messages; COMMIT", row.schema);
    instance.as_access(1, &read).await.is_ok()
}

async fn close(instance: &Instance, id: &TenantId, policy: DeletionPolicy) {
    let row = instance.row(id).await;
    let close = CloseDatabase {
        tenant_id: id.clone(),
        policy,
        incarnation: row.incarnation,
        row: Some(row.clone()),
        replaces: None,
        archive_seconds: 60,
    };
    let owner = agent_tenancy::domain::ident::ObjectId { uid: row.uid.clone(), ..object(id.as_str()) };
    instance.database.perform_close(&close, &owner, instance.id, &instance.fence).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_pg_upgrade_the_bootstrap_file_hands_everything_back() {
    let old = Postgres::start(PgVersion::OLDEST).await.unwrap();
    let mut instance = in_use_on(&old).await;
    for name in ["stays", "goes", "kept", "archived"] {
        instance.tenant(name).await;
    }
    let suspended = instance.tenant("suspended").await;
    instance.database.perform_suspend_access(&suspended.2, &instance.fence).await.unwrap();
    assert_eq!(instance.database.observe_drift(CLUSTER).await.unwrap(), []);

    let server = old.upgrade(PgVersion::NEWEST).await.unwrap();
    instance.database = Database::new(instance.database.settings().clone());
    let reported = warnings(&instance).await;
    assert!(
        reported.iter().any(|w| w.contains("cell 1") && w.contains("run the bootstrap file again")),
        "{reported:?}"
    );
    let stays = instance.row(&tenant_id("stays")).await;
    let refused = instance.database.perform_suspend_access(&stays, &instance.fence).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused:?}");
    assert!(reaches(&instance, &stays).await, "it is served meanwhile");

    // By the same administrator as before, who is no superuser.
    instance.test.bootstrap().await.unwrap();
    let reported = warnings(&instance).await;
    assert!(!reported.iter().any(|w| w.contains("cell 1")), "{reported:?}");
    assert_eq!(instance.database.observe_drift(CLUSTER).await.unwrap(), []);

    // Out of reach, though the membership can't be revoked; and back.
    for _ in 0..2 {
        instance.database.perform_suspend_access(&stays, &instance.fence).await.unwrap();
        assert!(!reaches(&instance, &stays).await);
        let facts = instance.database.observe_tenant(&tenant_id("stays"), ReadPurpose::Serving).await.unwrap();
        assert!(is_member(&facts) && is_intact(&facts), "nothing is repaired that would let it in again: {facts:?}");
    }
    for row in [&stays, &suspended.2] {
        instance.database.perform_resume_access(row, &instance.fence).await.unwrap();
        assert!(reaches(&instance, row).await);
    }
    write_a_message(&instance, &tenant_id("stays")).await.unwrap();

    let kept = instance.row(&tenant_id("kept")).await;
    close(&instance, &tenant_id("goes"), DeletionPolicy::Delete).await;
    close(&instance, &tenant_id("kept"), DeletionPolicy::Retain).await;
    close(&instance, &tenant_id("archived"), DeletionPolicy::Archive).await;
    assert!(!reaches(&instance, &kept).await);
    let roles = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}_goes'", instance.prefix);
    assert_eq!(instance.count(&roles).await, 0);

    // A new login, and the old one locked with its sessions ended.
    let next = NextLogin {
        id: LoginId(Uuid::from_u128(2)),
        slot: LoginSlot::B,
        password: KeyBytes::new(b"the-next-one".to_vec()),
        requests: LoginRequests::default(),
    };
    let first = Some(LoginId(Uuid::from_u128(1)));
    instance.database.perform_set_login(CellNumber(1), &next, first, &instance.fence).await.unwrap();
    let url = instance.test.url(&format!("{}_acc_1_b", instance.prefix), "the-next-one");
    PgConnection::connect(&url).await.unwrap();
    instance
        .database
        .perform_lock_login(CellNumber(1), LoginSlot::A, Some(next.id), true, &instance.fence)
        .await
        .unwrap();
    instance.database.perform_end_sessions(CellNumber(1), LoginSlot::A, &instance.fence).await.unwrap();
    instance.tenant("new").await;
    drop(server);
}

async fn a_restored_database_works_again(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = instance.tenant("acme").await;
    write_a_message(&instance, &id).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump");
    instance.test.dump(version, &file).await.unwrap();
    instance.test.drop_now().await.unwrap();
    let (name, owner) = (&instance.test.name, instance.test.administrator());
    let mut admin =
        PgConnection::connect(&instance.test.superuser_url().replace(name.as_str(), "postgres")).await.unwrap();
    let create = format!("CREATE DATABASE \"{name}\" OWNER {owner}");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    instance.test.restore(version, &file).await.unwrap();
    instance.test.bootstrap().await.unwrap();

    // A new process.
    let database = Database::new(instance.database.settings().clone());
    let facts = database.observe_instance(CLUSTER).await.unwrap();
    let cells = facts.control.as_ref().unwrap().cells.clone();
    assert!(cells.len() == 1 && !cells[0].creates && !cells[0].connects && cells[0].is_repairable(), "{cells:?}");
    assert!(PgConnection::connect(&instance.test.url(&format!("{}_acc_1_a", instance.prefix), "x")).await.is_err());
    for _ in 0..2 {
        database.perform_repair_cell(cells[0].cell, cells[0].members, &instance.fence).await.unwrap();
    }
    assert!(!warnings(&instance).await.iter().any(|w| w.contains("cell 1")));
    assert!(reaches(&instance, &row).await);
    write_a_message(&instance, &id).await.unwrap();
    instance.tenant("new").await;
    assert_eq!(instance.database.observe_drift(CLUSTER).await.unwrap(), []);

    // Logins that lost the access group, and roles that are gone.
    let p = &instance.prefix;
    let by = if version == PgVersion::V15 { String::new() } else { format!(" GRANTED BY {p}_base") };
    instance.as_admin(&format!("REVOKE {p}_acc_1 FROM {p}_acc_1_a{by}")).await;
    let cells = database.observe_instance(CLUSTER).await.unwrap().control.unwrap().cells;
    assert!(cells.len() == 1 && !cells[0].members, "{cells:?}");
    database.perform_repair_cell(cells[0].cell, cells[0].members, &instance.fence).await.unwrap();
    assert!(reaches(&instance, &row).await);
    instance.as_admin(&format!("ALTER ROLE {p}_acc_1_b RENAME TO {p}_renamed")).await;
    let reported = warnings(&instance).await;
    assert!(reported.iter().any(|w| w.contains(&format!("{p}_acc_1_b")) && w.contains("pg_dumpall")), "{reported:?}");
}
