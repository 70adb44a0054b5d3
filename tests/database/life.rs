//! The life cycle of a tenant: every step, and every step twice.

use super::setup::{CLUSTER, Instance, Steps, in_use, is_intact, is_member, object, on_both, tenant_id};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        class::ErrorClass,
        ident::{Incarnation, ObjectId, TenantId},
        keyring::KeyringMark,
    },
    effects::postgres::ReadPurpose,
    plan::{
        drift::{Drift, Place},
        observed::{LedgerRow, RowState, render_mark},
        step::{CloseDatabase, Provision},
    },
};
use devkit::PgVersion;
use uuid::Uuid;

on_both!(
    create_to_drop,
    create_to_retain,
    nothing_made,
    nothing_made_over_a_tombstone,
    owners,
    recreate,
    repair,
    keyring,
    round_trips,
    suspend_and_resume
);

pub fn close(id: &TenantId, row: Option<LedgerRow>, policy: DeletionPolicy) -> CloseDatabase {
    let incarnation = row.as_ref().map_or(Incarnation(Uuid::new_v4()), |r| r.incarnation);
    CloseDatabase { tenant_id: id.clone(), policy, row, incarnation, replaces: None, archive_seconds: 60 }
}

pub async fn write_a_message(instance: &Instance, id: &TenantId) -> Result<(), String> {
    let name = id.database_name(&instance.prefix);
    let sql = format!(
        "BEGIN; SET LOCAL ROLE \"{name}\"; SET LOCAL search_path = \"{name}\", pg_temp; \
         INSERT INTO conversations (id, sub) VALUES (gen_random_uuid(), 'me'); COMMIT;"
    );
    instance.as_access(1, &sql).await
}

async fn create_to_drop(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, owner) = (tenant_id("acme"), object("acme"));

    let before = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert_eq!((before.row, before.role_mark, before.schema_mark), (None, None, None));
    let offer = before.offer.unwrap();
    assert!(offer.exists && offer.cell.0 == 1);

    let wanted = instance.provision(&id);
    for _ in 0..2 {
        database.perform_provision(&wanted, &owner, instance.id, &instance.fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        let mark = Some(render_mark(instance.id, wanted.incarnation));
        assert_eq!((&facts.role_mark, &facts.schema_mark), (&mark, &mark));
        assert!(is_intact(&facts) && is_member(&facts) && facts.offer.is_none());
        let row = facts.row.unwrap();
        assert_eq!((row.state, &row.uid, row.incarnation), (RowState::Active, &owner.uid, wanted.incarnation));
    }
    write_a_message(&instance, &id).await.unwrap();

    let row = instance.row(&id).await;
    let mut since = None;
    for _ in 0..2 {
        database.perform_revoke_access(&row, &instance.fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Deleting).await.unwrap();
        assert!(!is_member(&facts));
        let now = facts.row.unwrap();
        assert_eq!(now.state, RowState::Deleting);
        assert_eq!(*since.get_or_insert(now.state_since), now.state_since, "the wait starts once");
    }
    assert_eq!(write_a_message(&instance, &id).await, Err("42501".into()));

    let row = instance.row(&id).await;
    for _ in 0..2 {
        let step = close(&id, Some(row.clone()), DeletionPolicy::Delete);
        database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!((facts.role_mark, facts.schema_mark), (None, None));
        assert_eq!(facts.row.unwrap().state, RowState::Dropped);
    }
}

/// Access is revoked and granted repeatedly; a repair grants no access to a suspended tenant; keyrings are still recorded.
async fn suspend_and_resume(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, owner, row) = instance.tenant("acme").await;
    write_a_message(&instance, &id).await.unwrap();
    let mut since = None;
    for _ in 0..2 {
        database.perform_suspend_access(&row, &instance.fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Suspending).await.unwrap();
        assert!(!is_member(&facts) && is_intact(&facts) && facts.offer.is_none());
        let now = facts.row.unwrap();
        assert_eq!(now.state, RowState::Suspended);
        assert_eq!(*since.get_or_insert(now.state_since), now.state_since, "the wait starts once");
    }
    assert_eq!(write_a_message(&instance, &id).await, Err("42501".into()));
    let suspended = instance.row(&id).await;
    database.perform_repair(&suspended, &[Drift::SchemaMark], instance.id, &instance.fence).await.unwrap();
    assert_eq!(write_a_message(&instance, &id).await, Err("42501".into()), "a repair does not grant access");
    let mark = KeyringMark { version: 2, digest: "second".to_owned() };
    database.perform_record_keyring(&suspended, &mark, &instance.fence).await.unwrap();

    for _ in 0..2 {
        database.perform_resume_access(&suspended, &instance.fence).await.unwrap();
        assert_eq!(instance.row(&id).await.state, RowState::Active);
        write_a_message(&instance, &id).await.unwrap();
    }
    let late =
        database.perform_repair(&suspended, &[Drift::SchemaMark], instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(late.sqlstate.as_deref(), Some("ATC01"), "the step was planned for a suspended tenant");

    // A suspended tenant can be deleted.
    database.perform_suspend_access(&row, &instance.fence).await.unwrap();
    database.perform_revoke_access(&row, &instance.fence).await.unwrap();
    let refused = database.perform_resume_access(&suspended, &instance.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"));
    let step = close(&id, Some(row), DeletionPolicy::Delete);
    database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    assert_eq!(instance.row(&id).await.state, RowState::Dropped);
}

/// The ledger records newer keyrings only.
async fn keyring(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, _, row) = instance.tenant("acme").await;
    assert_eq!(row.keyring, KeyringMark { version: 1, digest: "first".to_owned() });
    let mark = |version, digest: &str| KeyringMark { version, digest: digest.to_owned() };
    for (late, last) in [(mark(2, "second"), 2), (mark(4, "fourth"), 4), (mark(3, "late"), 4), (mark(4, "again"), 4)] {
        instance.database.perform_record_keyring(&row, &late, &instance.fence).await.unwrap();
        assert_eq!(instance.row(&id).await.keyring.version, last);
    }
    assert_eq!(instance.row(&id).await.keyring.digest, "fourth");
    instance.database.perform_revoke_access(&row, &instance.fence).await.unwrap();
    let refused = instance.database.perform_record_keyring(&row, &mark(5, "x"), &instance.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"));
}

async fn create_to_retain(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, owner, row) = instance.tenant("acme").await;
    write_a_message(&instance, &id).await.unwrap();
    database.perform_revoke_access(&row, &instance.fence).await.unwrap();
    for _ in 0..2 {
        let step = close(&id, Some(row.clone()), DeletionPolicy::Retain);
        database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
        assert_eq!(instance.row(&id).await.state, RowState::Retained);
    }
    let kept = format!("SELECT count(*) FROM \"{}\".conversations", row.schema);
    assert_eq!(instance.count(&kept).await, 1);

    // The id stays reserved: retained data is not overwritten.
    let error =
        database.perform_provision(&instance.provision(&id), &object("acme"), instance.id, &instance.fence).await;
    assert_eq!(error.unwrap_err().sqlstate.as_deref(), Some("ATC01"));
    assert_eq!(instance.count(&kept).await, 1);
}

async fn nothing_made(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, owner) = (tenant_id("acme"), object("acme"));
    for _ in 0..2 {
        let step = close(&id, None, DeletionPolicy::Delete);
        instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    }
    // A delayed step of the same Tenant is refused.
    let late =
        instance.database.perform_provision(&instance.provision(&id), &owner, instance.id, &instance.fence).await;
    assert_eq!(late.unwrap_err().sqlstate.as_deref(), Some("ATR01"));
    assert_eq!(instance.row(&id).await.state, RowState::Dropped);
}

/// A reused id: a step of the second Tenant may arrive after that Tenant and its successor were deleted.
async fn nothing_made_over_a_tombstone(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, first, row) = instance.tenant("acme").await;
    let step = close(&id, Some(row.clone()), DeletionPolicy::Delete);
    database.perform_close(&step, &first, instance.id, &instance.fence).await.unwrap();

    let (second, delayed) = (object("acme"), instance.provision(&id));
    let delayed = Provision { replaces: Some(row.incarnation), ..delayed };
    let bury = CloseDatabase { replaces: Some(row.incarnation), ..close(&id, None, DeletionPolicy::Delete) };
    for _ in 0..2 {
        database.perform_close(&bury, &second, instance.id, &instance.fence).await.unwrap();
        let late = database.perform_provision(&delayed, &second, instance.id, &instance.fence).await.unwrap_err();
        assert_eq!((late.class, late.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")));
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert_eq!((facts.role_mark, facts.schema_mark), (None, None));
        let tombstone = facts.row.unwrap();
        assert_eq!((tombstone.uid, tombstone.incarnation), (second.uid.clone(), bury.incarnation));
    }

    // A third Tenant uses the id and is deleted: steps of the second one are still refused.
    let third = object("acme");
    let wanted = Provision { replaces: Some(bury.incarnation), ..instance.provision(&id) };
    database.perform_provision(&wanted, &third, instance.id, &instance.fence).await.unwrap();
    let refused = database.perform_close(&bury, &second, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"));
    let step = close(&id, Some(instance.row(&id).await), DeletionPolicy::Delete);
    database.perform_close(&step, &third, instance.id, &instance.fence).await.unwrap();
    let late = database.perform_provision(&delayed, &second, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(late.sqlstate.as_deref(), Some("ATR01"));
    assert_eq!(instance.row(&id).await.incarnation, wanted.incarnation);
}

/// The ledger lists the owners of data in use, for each cluster.
async fn owners(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (first, owner, row) = instance.tenant("acme").await;
    let (second, other, going) = instance.tenant("globex").await;
    let all = database.observe_owners(CLUSTER).await.unwrap();
    assert_eq!(all, [(first.clone(), owner.clone()), (second.clone(), other.clone())]);
    assert_eq!(database.observe_owners("another").await.unwrap(), []);
    // A tenant that is being deleted is listed; a retained or dropped one is not.
    database.perform_revoke_access(&going, &instance.fence).await.unwrap();
    let step = close(&first, Some(row), DeletionPolicy::Retain);
    database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    assert_eq!(database.observe_owners(CLUSTER).await.unwrap(), [(second, other)]);
}

async fn recreate(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, owner, row) = instance.tenant("acme").await;
    let step = close(&id, Some(row.clone()), DeletionPolicy::Delete);
    database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();

    let successor = object("acme");
    let over = |replaces| Provision { replaces, ..instance.provision(&id) };
    let wrong = over(Some(Incarnation(Uuid::new_v4())));
    let refused = database.perform_provision(&wrong, &successor, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATR01"));
    let right = over(Some(row.incarnation));
    for _ in 0..2 {
        database.perform_provision(&right, &successor, instance.id, &instance.fence).await.unwrap();
    }
    assert_eq!(instance.row(&id).await.incarnation, right.incarnation);
    // A late step of the first owner's deletion does not affect the new tenant.
    let late = close(&id, Some(row), DeletionPolicy::Delete);
    let refused = database.perform_close(&late, &owner, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"));
    write_a_message(&instance, &id).await.unwrap();
}

async fn repair(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, _, row): (_, ObjectId, _) = instance.tenant("acme").await;
    let (schema, role) = (&row.schema, &row.role);
    instance
        .as_admin(&format!(
            "SET ROLE \"{p}_own_1\"; REVOKE INSERT ON \"{schema}\".conversations FROM \"{role}\"; \
             REVOKE \"{role}\" FROM \"{p}_acc_1\"; COMMENT ON SCHEMA \"{schema}\" IS NULL;",
            p = instance.prefix
        ))
        .await;
    let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert!(!is_intact(&facts) && !is_member(&facts) && facts.schema_mark.as_deref() == Some(""));
    let right = Drift::PrivilegeLost {
        on: Place::Table("conversations".to_owned()),
        from: role.clone(),
        privileges: vec!["INSERT"],
    };
    let found = [Drift::SchemaMark, right, Drift::MemberLost];
    for _ in 0..2 {
        database.perform_repair(&row, &found, instance.id, &instance.fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts));
        assert_eq!(facts.schema_mark, Some(render_mark(instance.id, row.incarnation)));
    }
    write_a_message(&instance, &id).await.unwrap();

    // A dropped schema is not recreated.
    instance.as_admin(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await;
    let lost = database.perform_repair(&row, &found, instance.id, &instance.fence).await.unwrap_err();
    assert_eq!(lost.sqlstate.as_deref(), Some("ATC04"));
}

async fn round_trips(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    database.observe_cells().await.unwrap();
    let before = database.round_trips();
    let (id, owner) = (tenant_id("acme"), object("acme"));
    database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    database.perform_provision(&instance.provision(&id), &owner, instance.id, &instance.fence).await.unwrap();
    assert!(is_member(&database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap()));
    let spent = database.round_trips() - before;
    println!("round trips of a new tenant until it is confirmed: {spent}");
    assert_eq!(spent, 3);
}
