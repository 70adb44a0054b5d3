//! Rotation of a cell's logins: every step, every step twice, and steps that come too late.

use super::{
    killed::{KILLER, run},
    life::write_a_message,
    setup::{CELL_PASSWORD, CLUSTER, Instance, bootstrapped, by, cell_login, in_use, on_both},
};
use agent_tenancy::{
    domain::{
        cells::{CellRoles, base_role},
        class::ErrorClass,
        ident::{CellNumber, Epoch, LoginId},
        keys::KeyBytes,
        logins::{LoginRequests, LoginSlot, NextLogin},
        migrations::CONTROL,
    },
    effects::postgres::{CellLogin, EpochFence, PgErrorKind},
    plan::instance::logins::{LoginFacts, LoginRoleFacts},
};
use devkit::{PgVersion, eventually};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;
use uuid::Uuid;

on_both!(
    from_one_to_the_other_and_back,
    steps_that_come_too_late,
    an_old_leader,
    a_revoked_login_ends_with_its_sessions,
    an_entry_that_was_lost,
    cells_of_an_earlier_version,
    ended_half_way,
);

const CELL: CellNumber = CellNumber(1);

fn id(n: u128) -> LoginId {
    LoginId(Uuid::from_u128(n))
}

fn next(n: u128, slot: LoginSlot) -> NextLogin {
    let password = KeyBytes::new(format!("password-{n}").into_bytes());
    NextLogin { id: id(n), slot, password, requests: LoginRequests::default() }
}

/// Logs in; the SQLSTATE of a refusal.
async fn log_in(instance: &Instance, slot: LoginSlot, password: &str) -> Result<PgConnection, String> {
    let roles = CellRoles::of(&instance.prefix, CELL);
    PgConnection::connect(&instance.test.url(roles.login(slot), password)).await.map_err(|error| match error {
        sqlx::Error::Database(error) => error.code().unwrap().into_owned(),
        other => panic!("{other}"),
    })
}

async fn refused(instance: &Instance, slot: LoginSlot, password: &str) -> String {
    log_in(instance, slot, password).await.err().unwrap_or_else(|| panic!("login {slot:?} was accepted"))
}

async fn send(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

async fn facts(instance: &Instance) -> LoginFacts {
    instance.database.observe_logins().await.unwrap().into_iter().find(|facts| facts.cell == CELL).unwrap()
}

fn role(can_login: bool, sessions: u64) -> Option<LoginRoleFacts> {
    Some(LoginRoleFacts { can_login, sessions })
}

/// Waits until the server has noticed that clients disconnected.
async fn sessions(instance: &Instance, slot: LoginSlot, wanted: u64) {
    eventually(Duration::from_secs(5), &format!("login {slot:?} has {wanted} sessions"), || async {
        let now = facts(instance).await;
        let role = if slot == LoginSlot::A { now.a } else { now.b };
        anyhow::ensure!(role.unwrap().sessions == wanted, "{now:?}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn from_one_to_the_other_and_back(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (tenant, ..) = instance.tenant("acme").await;
    write_a_message(&instance, &tenant).await.unwrap();
    sessions(&instance, LoginSlot::A, 0).await;
    let fresh = facts(&instance).await;
    assert_eq!((fresh.active, fresh.login_id), (LoginSlot::A, cell_login().id));
    assert_eq!((fresh.a, fresh.b), (role(true, 0), role(false, 0)), "the second login is locked");
    assert!(fresh.age_seconds < 60, "{fresh:?}");

    // An open transaction of the old login can be finished.
    let name = tenant.database_name(&instance.prefix);
    let mut open = instance.access(1).await;
    send(&mut open, &format!("BEGIN; SET LOCAL ROLE \"{name}\"")).await.unwrap();
    let before = instance.database.round_trips();
    let mut asked = next(2, LoginSlot::B);
    asked.requests = LoginRequests { rotation: Some("first".to_owned()), revocation: None };
    for _ in 0..2 {
        database.perform_set_login(CELL, &asked, cell_login().id, fence).await.unwrap();
        let now = facts(&instance).await;
        assert_eq!((now.active, now.login_id, &now.handled), (LoginSlot::B, Some(id(2)), &asked.requests));
        assert_eq!((now.a, now.b), (role(true, 1), role(true, 0)), "the base role, no superuser, sees them");
    }
    assert_eq!(instance.database.round_trips() - before, 4, "one for each step and each read");
    for (slot, password) in [(LoginSlot::A, CELL_PASSWORD), (LoginSlot::B, "password-2")] {
        let mut connection = log_in(&instance, slot, password).await.unwrap();
        send(&mut connection, &format!("SET ROLE \"{name}\"")).await.unwrap();
        connection.close().await.unwrap();
    }
    sessions(&instance, LoginSlot::A, 1).await;
    let held = database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), false, fence).await.unwrap_err();
    assert_eq!((held.class, held.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")));
    assert_eq!(facts(&instance).await.a, role(true, 1), "all or nothing");
    let insert = format!("INSERT INTO \"{name}\".conversations (id, sub) VALUES (gen_random_uuid(), 'me'); COMMIT");
    send(&mut open, &insert).await.unwrap();
    open.close().await.unwrap();
    sessions(&instance, LoginSlot::A, 0).await;
    for _ in 0..2 {
        database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), false, fence).await.unwrap();
        assert_eq!((facts(&instance).await.a, facts(&instance).await.b), (role(false, 0), role(true, 0)));
    }
    assert_eq!(refused(&instance, LoginSlot::A, CELL_PASSWORD).await, "28P01");

    // Back to the first login, with a new password.
    database.perform_set_login(CELL, &next(3, LoginSlot::A), Some(id(2)), fence).await.unwrap();
    assert_eq!(refused(&instance, LoginSlot::A, CELL_PASSWORD).await, "28P01");
    log_in(&instance, LoginSlot::A, "password-3").await.unwrap().close().await.unwrap();
    let now = facts(&instance).await;
    assert_eq!(now.handled, asked.requests, "a handled request stays handled");
    let kept = format!("SELECT count(*) FROM \"{name}\".conversations");
    assert_eq!(instance.count(&kept).await, 2);
}

async fn steps_that_come_too_late(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let first = cell_login().id;
    database.perform_set_login(CELL, &next(2, LoginSlot::B), first, fence).await.unwrap();
    let late = [
        database.perform_set_login(CELL, &next(3, LoginSlot::B), first, fence).await,
        database.perform_set_login(CELL, &next(3, LoginSlot::A), None, fence).await,
        database.perform_set_login(CellNumber(7), &next(3, LoginSlot::A), None, fence).await,
        database.perform_lock_login(CELL, LoginSlot::B, Some(id(2)), true, fence).await,
        database.perform_lock_login(CELL, LoginSlot::A, first, true, fence).await,
        database.perform_lock_login(CellNumber(7), LoginSlot::A, None, true, fence).await,
    ];
    for (n, result) in late.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert_eq!((error.class, error.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")), "{n}: {error}");
    }
    for (slot, password) in [(LoginSlot::A, CELL_PASSWORD), (LoginSlot::B, "password-2")] {
        log_in(&instance, slot, password).await.unwrap().close().await.unwrap();
    }
    // A role without the cell's mark is not changed.
    let login = CellRoles::of(&instance.prefix, CELL).logins[0].clone();
    instance.as_admin(&format!("COMMENT ON ROLE \"{login}\" IS 'somebody''s'")).await;
    let foreign = [
        database.perform_set_login(CELL, &next(3, LoginSlot::A), Some(id(2)), fence).await,
        database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), true, fence).await,
        database.perform_end_sessions(CELL, LoginSlot::A, fence).await,
    ];
    for result in foreign {
        let error = result.unwrap_err();
        assert_eq!((error.class, error.sqlstate.as_deref()), (ErrorClass::Conflict, Some("ATC02")));
    }
    instance.as_admin(&format!("ALTER ROLE \"{login}\" RENAME TO \"{login}x\"")).await;
    let gone = database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), true, fence).await.unwrap_err();
    assert_eq!(gone.sqlstate.as_deref(), Some("ATC04"));
    assert_eq!(facts(&instance).await.a, None);
}

async fn an_old_leader(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, old) = (&instance.database, &instance.fence);
    database.perform_raise_epoch(CLUSTER, Epoch(2)).await.unwrap();
    let results = [
        database.perform_set_login(CELL, &next(2, LoginSlot::B), cell_login().id, old).await,
        database.perform_lock_login(CELL, LoginSlot::B, cell_login().id, true, old).await,
        database.perform_end_sessions(CELL, LoginSlot::B, old).await,
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind, PgErrorKind::Fenced);
    }
    assert_eq!((facts(&instance).await.active, facts(&instance).await.b), (LoginSlot::A, role(false, 0)));
}

async fn a_revoked_login_ends_with_its_sessions(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let mut stolen = instance.access(1).await;
    let mut revocation = next(2, LoginSlot::B);
    revocation.requests = LoginRequests { rotation: None, revocation: Some("leak".to_owned()) };
    database.perform_set_login(CELL, &revocation, cell_login().id, fence).await.unwrap();
    let mut good = log_in(&instance, LoginSlot::B, "password-2").await.unwrap();
    database.perform_end_sessions(CELL, LoginSlot::A, fence).await.unwrap();
    send(&mut stolen, "SELECT 1").await.unwrap();
    database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), true, fence).await.unwrap();
    send(&mut stolen, "SELECT 1").await.unwrap();
    assert_eq!(facts(&instance).await.a, role(false, 1));
    for _ in 0..2 {
        database.perform_end_sessions(CELL, LoginSlot::A, fence).await.unwrap();
    }
    assert!(send(&mut stolen, "SELECT 1").await.is_err());
    sessions(&instance, LoginSlot::A, 0).await;
    send(&mut good, "SELECT 1").await.unwrap();
    assert_eq!(facts(&instance).await.handled, revocation.requests);
    // The base role is not a member of the login any more.
    let login = CellRoles::of(&instance.prefix, CELL).logins[0].clone();
    let given = format!(
        "SELECT count(*) FROM pg_auth_members m WHERE m.roleid = '\"{login}\"'::regrole \
         AND m.member = '\"{}\"'::regrole AND NOT m.admin_option",
        base_role(&instance.prefix)
    );
    assert_eq!(instance.count(&given).await, 0);
}

/// The entry is recreated with another password: the database follows, and open sessions keep working.
async fn an_entry_that_was_lost(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let mut open = instance.access(1).await;
    let again = CellLogin { slot: LoginSlot::B, id: Some(id(5)), password: KeyBytes::new(b"again".to_vec()) };
    for _ in 0..2 {
        database.perform_create_cell(CELL, &again, &by(fence)).await.unwrap();
    }
    log_in(&instance, LoginSlot::B, "again").await.unwrap().close().await.unwrap();
    send(&mut open, "SELECT 1").await.unwrap();
    let now = facts(&instance).await;
    assert_eq!((now.active, now.login_id, now.a), (LoginSlot::B, Some(id(5)), role(true, 1)));
    // A login with the same id is not changed, whatever password is given.
    let other = CellLogin { password: KeyBytes::new(b"other".to_vec()), ..again };
    database.perform_create_cell(CELL, &other, &by(fence)).await.unwrap();
    assert_eq!(refused(&instance, LoginSlot::B, "other").await, "28P01");
}

/// Cells of the first version of the control schema: the login has no id, and the second login has LOGIN, but no password.
async fn cells_of_an_earlier_version(version: PgVersion) {
    let instance = bootstrapped(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let roles = CellRoles::of(&instance.prefix, CELL);
    let [a, b] = &roles.logins;
    let first = &CONTROL[0];
    instance
        .as_admin(&format!(
            "SET ROLE \"{}\"; SET search_path = pg_catalog; CREATE SCHEMA agent_tenancy;\n{}\n\
             INSERT INTO agent_tenancy.migrations (version, checksum) VALUES (1, '{}');\n\
             SELECT agent_tenancy.make_cell(1, '{}', '{}', '{a}', '{b}', '{CELL_PASSWORD}');\n\
             UPDATE agent_tenancy.cells SET created_at = now() - interval '50 days';",
            base_role(&instance.prefix),
            first.sql,
            first.checksum(),
            roles.owner,
            roles.access,
        ))
        .await;
    for _ in 0..2 {
        database.perform_migrate_control().await.unwrap();
    }
    database.perform_raise_epoch(CLUSTER, Epoch(1)).await.unwrap();
    let old = facts(&instance).await;
    assert_eq!((old.active, old.login_id, old.a, old.b), (LoginSlot::A, None, role(true, 0), role(true, 0)));
    assert_eq!(old.age_seconds / 86_400, 50);
    // The entry of such a cell has no login id, either: no password is set.
    let entry = CellLogin { id: None, ..cell_login() };
    database.perform_create_cell(CELL, &entry, &by(fence)).await.unwrap();
    database.perform_lock_login(CELL, LoginSlot::B, None, false, fence).await.unwrap();
    database.perform_set_login(CELL, &next(2, LoginSlot::B), None, fence).await.unwrap();
    database.perform_lock_login(CELL, LoginSlot::A, Some(id(2)), false, fence).await.unwrap();
    log_in(&instance, LoginSlot::B, "password-2").await.unwrap().close().await.unwrap();
    assert_eq!(refused(&instance, LoginSlot::A, CELL_PASSWORD).await, "28P01");
    // A new cell begins with one login.
    instance.make_cell(2).await;
    let all = database.observe_logins().await.unwrap();
    assert_eq!((all[1].active, all[1].a, all[1].b), (LoginSlot::A, role(true, 0), role(false, 0)));
}

/// The backend is killed at every statement that fires a trigger, and while it waits: the change is done as a whole or not
/// at all, and a retry completes it.
async fn ended_half_way(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let mut admin = instance.admin().await;
    run(&mut admin, KILLER).await;
    let arm = |n: u64| format!("SELECT setval('chaos.seen', 1, false); UPDATE chaos.target SET n = {n}");
    let (mut kills, mut known) = (0, cell_login().id);
    for n in 1.. {
        let slot = if n % 2 == 1 { LoginSlot::B } else { LoginSlot::A };
        let login = next(u128::from(n) + 1, slot);
        run(&mut admin, &arm(n)).await;
        let killed = database.perform_set_login(CELL, &login, known, fence).await;
        run(&mut admin, &arm(0)).await;
        let between = facts(&instance).await;
        let done = between.login_id == Some(login.id);
        assert!(done || between.login_id == known, "{between:?}");
        assert_eq!(log_in(&instance, slot, &format!("password-{}", n + 1)).await.is_ok(), done);
        database.perform_set_login(CELL, &login, known, fence).await.unwrap();
        log_in(&instance, slot, &format!("password-{}", n + 1)).await.unwrap().close().await.unwrap();
        known = Some(login.id);
        if killed.is_ok() {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "at the row and at COMMIT: {kills}");
    for n in 1.. {
        let number = CellNumber(10 + i32::try_from(n).unwrap());
        run(&mut admin, &arm(n)).await;
        let killed = database.perform_create_cell(number, &cell_login(), &by(fence)).await;
        run(&mut admin, &arm(0)).await;
        database.perform_create_cell(number, &cell_login(), &by(fence)).await.unwrap();
        assert_eq!(instance.as_access(number.0, "SELECT 1").await, Ok(()));
        if killed.is_ok() {
            break;
        }
        kills += 1;
    }
    println!("Postgres {}: {kills} kills", version.major());

    let old = facts(&instance).await.active.other();
    let lock = "BEGIN; LOCK TABLE agent_tenancy.cells IN ACCESS EXCLUSIVE MODE";
    let mut blocker = instance.admin().await;
    send(&mut blocker, lock).await.unwrap();
    let (locked, ()) = tokio::join!(
        database.perform_lock_login(CELL, old, known, false, fence),
        super::races::terminate_waiting(&instance)
    );
    assert_eq!(locked.unwrap_err().kind, PgErrorKind::Interrupted);
    send(&mut blocker, "ROLLBACK").await.unwrap();
    let can_login = |facts: &LoginFacts| if old == LoginSlot::A { facts.a } else { facts.b }.unwrap().can_login;
    assert!(can_login(&facts(&instance).await));
    database.perform_lock_login(CELL, old, known, false, fence).await.unwrap();
    assert!(!can_login(&facts(&instance).await));
    let newer = EpochFence { epoch: Epoch(9), ..fence.clone() };
    assert_eq!(database.perform_end_sessions(CELL, old, &newer).await.unwrap_err().kind, PgErrorKind::Fenced);
}
