//! The operator through a real pgbouncer in transaction mode: a tenant's life cycle and the rotation of logins.

use super::{
    life::{close, write_a_message},
    own::apply,
    setup::{
        CELL_PASSWORD, CLUSTER, Instance, Steps, cell_login, connect, in_use, is_intact, is_member, object, on_both,
        tenant_id,
    },
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        cells::CellRoles,
        ident::{CellNumber, LoginId},
        keys::KeyBytes,
        logins::{LoginRequests, LoginSlot, NextLogin},
    },
    effects::postgres::{Database, ReadPurpose},
    plan::observed::RowState,
    settings::database::InstanceSettings,
};
use devkit::{PgBouncer, PgVersion, eventually};
use std::time::Duration;
use uuid::Uuid;

on_both!(a_whole_life, many_at_once_over_one_connection, logins_that_rotate);

/// Sends all connections but the administrator's through a pgbouncer from now on.
pub async fn pooled(instance: &mut Instance, pool_size: u32) -> PgBouncer {
    let pooler = PgBouncer::start(&instance.test, instance.prefix.as_str(), pool_size).await.unwrap();
    let settings = InstanceSettings { port: pooler.port(), ..instance.database.settings().clone() };
    instance.database = Database::new(settings);
    instance.test.port = pooler.port();
    pooler
}

async fn a_whole_life(version: PgVersion) {
    let mut instance = in_use(version).await;
    let _pooler = pooled(&mut instance, 1).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let facts = database.observe_instance(CLUSTER).await.unwrap();
    assert_eq!(facts.control.unwrap().database_id, instance.id);
    database.perform_heartbeat(fence).await.unwrap();
    instance.make_cell(2).await;

    let (id, owner, row) = instance.tenant("acme").await;
    let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert!(is_intact(&facts) && is_member(&facts));
    write_a_message(&instance, &id).await.unwrap();
    assert_eq!(database.observe_drift(CLUSTER).await.unwrap(), []);
    // Custom migrations run as a login of the tenant that exists only meanwhile.
    for file in ["CREATE TABLE notes (id int)", "-- no-transaction\nCREATE INDEX CONCURRENTLY notes_id ON notes (id)"] {
        apply(&instance, &id, file).await.unwrap();
    }
    assert_eq!(instance.row(&id).await.own.version, 2);

    database.perform_suspend_access(&row, fence).await.unwrap();
    assert_eq!(write_a_message(&instance, &id).await, Err("42501".into()));
    database.perform_resume_access(&instance.row(&id).await, fence).await.unwrap();
    write_a_message(&instance, &id).await.unwrap();
    let kept = format!("SELECT count(*) FROM \"{}\".conversations", row.schema);
    assert_eq!(instance.count(&kept).await, 2);

    database.perform_revoke_access(&row, fence).await.unwrap();
    let step = close(&id, Some(row), DeletionPolicy::Delete);
    database.perform_close(&step, &owner, instance.id, fence).await.unwrap();
    assert_eq!(instance.row(&id).await.state, RowState::Dropped);
    // A failure in between leaves no state on the one connection.
    let refused = database.perform_revoke_access(&instance.row(&id).await, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"));
    instance.tenant("globex").await;
}

async fn many_at_once_over_one_connection(version: PgVersion) {
    let mut instance = in_use(version).await;
    let _pooler = pooled(&mut instance, 1).await;
    let instance = &instance;
    let lives = (0..12).map(|n| async move {
        let (id, owner) = (tenant_id(&format!("t{n}")), object(&format!("t{n}")));
        let wanted = instance.provision(&id);
        instance.database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
        assert!(is_intact(&instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap()));
        write_a_message(instance, &id).await.unwrap();
    });
    futures::future::join_all(lives).await;
    let used = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE '{}%operator%'",
        instance.prefix
    );
    // One session of pgbouncer, and one earlier session of the operator.
    assert!(instance.count(&used).await <= 2);
}

async fn logins_that_rotate(version: PgVersion) {
    let mut instance = in_use(version).await;
    let pooler = pooled(&mut instance, 2).await;
    let (database, fence, cell) = (&instance.database, &instance.fence, CellNumber(1));
    let log_in = async |slot: LoginSlot, password: &str| {
        let url = instance.test.url(CellRoles::of(&instance.prefix, cell).login(slot), password);
        match connect(&url).await {
            Ok(mut connection) => sqlx::raw_sql("SELECT 1").execute(&mut connection).await.is_ok(),
            Err(_) => false,
        }
    };
    assert!(log_in(LoginSlot::A, CELL_PASSWORD).await);
    let (mut slot, mut known) = (LoginSlot::A, cell_login().id);
    // Each of the two twice: pgbouncer notices a new password of a login that it knows.
    for n in 2..6_u128 {
        let (old, id) = (slot, LoginId(Uuid::from_u128(n)));
        slot = slot.other();
        let password = format!("password-{n}");
        let key = KeyBytes::new(password.clone().into_bytes());
        let next = NextLogin { id, slot, password: key, requests: LoginRequests::default() };
        database.perform_set_login(cell, &next, known, fence).await.unwrap();
        known = Some(id);
        assert!(log_in(slot, &password).await, "{n}: {}", pooler.log());
        // pgbouncer keeps the old login's session for some time after its last client has disconnected.
        eventually(Duration::from_secs(10), "the old login is no longer in use", || async {
            let locked = database.perform_lock_login(cell, old, known, false, fence).await;
            if let Err(error) = &locked {
                assert_eq!(error.sqlstate.as_deref(), Some("ATR01"));
            }
            Ok(locked?)
        })
        .await
        .unwrap();
        let old_password = if n == 2 { CELL_PASSWORD.to_owned() } else { format!("password-{}", n - 1) };
        assert!(!log_in(old, &old_password).await, "{n}");
        assert!(!log_in(slot, "not-the-password").await, "{n}");
    }
    // The role that queries passwords gets the verifiers of this installation's logins only.
    let ask = format!("SELECT count(*) FROM {}_pgbouncer_auth.lookup('postgres')", instance.prefix);
    assert_eq!(instance.count(&ask).await, 0);
    let login = CellRoles::of(&instance.prefix, cell).login(slot).to_owned();
    let own = format!("SELECT count(*) FROM {}_pgbouncer_auth.lookup('{login}')", instance.prefix);
    assert_eq!(instance.count(&own).await, 1);
}
