//! Archives: made, taken over, and dropped when they are due, all as the operator's role.

use super::{
    life::{close, write_a_message},
    setup::{CLUSTER, Instance, Steps, in_use, is_intact, object, on_both, tenant_id},
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        class::ErrorClass,
        ident::{Epoch, ObjectId, TenantId, Uid},
        keyring::KeyringMark,
        migrations::TENANT_VERSION,
    },
    effects::postgres::{EpochFence, PgErrorKind, ReadPurpose},
    plan::{
        observed::{LedgerRow, RowState, render_mark},
        step::{Adoption, AdoptionSource, Provision},
    },
};
use devkit::PgVersion;
use sqlx::{AssertSqlSafe, Connection};

on_both!(
    put_aside_and_dropped,
    put_aside_and_taken_over,
    retained_and_taken_over,
    an_adoption_that_comes_late,
    tables_brought_up_to_date,
    what_stands_in_the_way,
    old_leaders_and_killed_backends,
    cells_count_archives
);

/// Archives a tenant that has a message; twice, as after a lost reply.
async fn archived(instance: &Instance, name: &str) -> (TenantId, ObjectId, LedgerRow) {
    let (id, owner, row) = instance.tenant(name).await;
    write_a_message(instance, &id).await.unwrap();
    let step = close(&id, Some(row.clone()), DeletionPolicy::Archive);
    for _ in 0..2 {
        instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
        assert_eq!(instance.row(&id).await.state, RowState::Dropped);
    }
    (id, owner, row)
}

pub fn adoption(id: &TenantId, row: &LedgerRow, source: AdoptionSource) -> Adoption {
    Adoption {
        tenant_id: id.clone(),
        incarnation: row.incarnation,
        previous: row.uid.clone(),
        cell: row.cell,
        schema: row.schema.clone(),
        role: row.role.clone(),
        schema_version: row.schema_version,
        target_version: TENANT_VERSION,
        keyring: KeyringMark { version: row.keyring.version + 1, digest: "taken".to_owned() },
        source,
    }
}

fn from_archive(id: &TenantId, row: &LedgerRow) -> Adoption {
    let name = row.incarnation.archive_name(&row.schema);
    let replaces = Some(row.incarnation);
    adoption(id, row, AdoptionSource::Archived { schema: name.clone(), role: name, replaces, granted_from: None })
}

pub async fn messages(instance: &Instance, schema: &str) -> i64 {
    instance.count(&format!("SELECT count(*) FROM \"{schema}\".conversations")).await
}

async fn roles(instance: &Instance, name: &str) -> i64 {
    instance.count(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")).await
}

async fn time_is_over(instance: &Instance) {
    instance.as_admin("UPDATE agent_tenancy.archives SET drop_after = now() - interval '1 second'").await;
}

async fn put_aside_and_dropped(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, owner, row) = archived(&instance, "acme").await;
    let name = row.incarnation.archive_name(&row.schema);
    assert_eq!(messages(&instance, &name).await, 1);
    assert_eq!((roles(&instance, &row.role).await, roles(&instance, &name).await), (0, 1));
    assert_eq!(write_a_message(&instance, &id).await, Err("22023".into()), "the role does not exist any more");
    let as_archive = format!("BEGIN; SET LOCAL ROLE \"{name}\";");
    assert_eq!(
        instance.as_access(1, &as_archive).await,
        Err("42501".into()),
        "nor may the login become the archive's role"
    );

    // The id is free: a new tenant gets none of the data, and steps on the archive do not affect it.
    let second = object("acme");
    let wanted = Provision { replaces: Some(row.incarnation), ..instance.provision(&id) };
    database.perform_provision(&wanted, &second, instance.id, fence).await.unwrap();
    assert_eq!(messages(&instance, &row.schema).await, 0);
    write_a_message(&instance, &id).await.unwrap();
    let late = close(&id, Some(row.clone()), DeletionPolicy::Archive);
    let refused = database.perform_close(&late, &owner, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC01"), "steps of the first owner do not affect it");

    // Not before it is due, and never by another cluster.
    let found = database.observe_due_archives(CLUSTER, None, 20).await.unwrap();
    assert!(found.due.is_empty() && found.next_seconds.is_some_and(|s| s > 0 && s <= 60), "{found:?}");
    time_is_over(&instance).await;
    assert!(database.observe_due_archives("another", None, 20).await.unwrap().due.is_empty());
    let found = database.observe_due_archives(CLUSTER, None, 20).await.unwrap();
    let [old] = &found.due[..] else { panic!("{found:?}") };
    assert_eq!((old.object(), &old.tenant_id, &old.schema), (owner, &id, &name));
    assert!(database.observe_due_archives(CLUSTER, Some(old.incarnation), 20).await.unwrap().due.is_empty());
    assert!(database.perform_drop_archive(old, instance.id, fence).await.unwrap());
    assert!(!database.perform_drop_archive(old, instance.id, fence).await.unwrap(), "it is dropped already");
    assert_eq!(roles(&instance, &name).await, 0);
    assert_eq!(instance.count(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{name}'")).await, 0);
    assert_eq!(messages(&instance, &row.schema).await, 1);
    assert_eq!(instance.row(&id).await.incarnation, wanted.incarnation);
}

async fn put_aside_and_taken_over(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, _, row) = archived(&instance, "acme").await;
    // A second tenant of this id, archived as well: each archive is found by its UID.
    let other = object("acme");
    let wanted = Provision { replaces: Some(row.incarnation), ..instance.provision(&id) };
    database.perform_provision(&wanted, &other, instance.id, fence).await.unwrap();
    let step = close(&id, Some(instance.row(&id).await), DeletionPolicy::Archive);
    database.perform_close(&step, &other, instance.id, fence).await.unwrap();

    let facts = database.observe_adopting(&id, ReadPurpose::Serving, Some(&row.uid)).await.unwrap();
    assert_eq!((facts.archives.len(), facts.offer), (2, None));
    assert_eq!(facts.archives[0].uid, row.uid, "the requested one comes first");
    let archive = facts.archive_of(&row.uid).unwrap();
    let mark = Some(render_mark(instance.id, row.incarnation));
    assert_eq!((&archive.schema_mark, &archive.role_mark), (&mark, &mark));
    assert_eq!((archive.cell, archive.schema_version, archive.ring_version), (row.cell, TENANT_VERSION, 1));
    assert_eq!(archive.schema_checksums, row.schema_checksums);
    assert_eq!(database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap().archives, []);

    let third = object("acme");
    let first_try = from_archive(&id, &row);
    let moved_on = database.perform_adopt(&first_try, &third, instance.id, fence).await.unwrap_err();
    assert_eq!((moved_on.class, moved_on.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")));
    let source = match first_try.source.clone() {
        AdoptionSource::Archived { schema, role, granted_from, .. } => {
            AdoptionSource::Archived { schema, role, replaces: Some(wanted.incarnation), granted_from }
        }
        AdoptionSource::Retained { .. } | AdoptionSource::Predecessor { .. } => unreachable!(),
    };
    let right = Adoption { source, ..first_try };
    let stranger = Adoption { previous: Uid("somebody".to_owned()), ..right.clone() };
    let refused = database.perform_adopt(&stranger, &third, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATR01"), "the UID must be the archive's");
    for _ in 0..2 {
        database.perform_adopt(&right, &third, instance.id, fence).await.unwrap();
        let facts = database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
        assert!(is_intact(&facts));
        assert_eq!((&facts.schema_mark, &facts.role_mark), (&mark, &mark));
        let now = facts.row.unwrap();
        assert_eq!((now.incarnation, now.uid, now.state), (row.incarnation, third.uid.clone(), RowState::Active));
        assert_eq!((now.keyring.version, now.schema.as_str()), (2, row.schema.as_str()));
    }
    write_a_message(&instance, &id).await.unwrap();
    assert_eq!(messages(&instance, &row.schema).await, 2, "the old conversation is there");
    // The first archive is in use and can't be dropped; the second one can.
    time_is_over(&instance).await;
    let found = database.observe_due_archives(CLUSTER, None, 20).await.unwrap();
    assert_eq!(found.due.iter().map(|a| a.incarnation).collect::<Vec<_>>(), [wanted.incarnation]);
    assert!(database.perform_drop_archive(&found.due[0], instance.id, fence).await.unwrap());
    assert_eq!(messages(&instance, &row.schema).await, 2);
}

async fn retained(instance: &Instance) -> (TenantId, LedgerRow) {
    let (id, owner, row) = instance.tenant("acme").await;
    write_a_message(instance, &id).await.unwrap();
    let step = close(&id, Some(row), DeletionPolicy::Retain);
    instance.database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
    let kept = instance.row(&id).await;
    (id, kept)
}

async fn retained_and_taken_over(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, kept) = retained(&instance).await;
    let next = ObjectId { namespace: "elsewhere".into(), ..object("next") };
    let wanted = adoption(&id, &kept, AdoptionSource::Retained { since: kept.state_since, granted_from: None });
    for _ in 0..2 {
        database.perform_adopt(&wanted, &next, instance.id, fence).await.unwrap();
        let now = instance.row(&id).await;
        assert_eq!((now.incarnation, &now.uid, now.state), (kept.incarnation, &next.uid, RowState::Active));
        assert_eq!((now.namespace.as_str(), now.name.as_str()), ("elsewhere", "next"));
    }
    write_a_message(&instance, &id).await.unwrap();
    assert_eq!(messages(&instance, &kept.schema).await, 2);
    // Data in use can't be adopted.
    let thief = adoption(
        &id,
        &instance.row(&id).await,
        AdoptionSource::Retained { since: kept.state_since, granted_from: None },
    );
    let refused = database.perform_adopt(&thief, &object("thief"), instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATR01"));
    assert_eq!(instance.row(&id).await.uid, next.uid);
}

/// The Tenant is deleted before its adoption arrives.
async fn an_adoption_that_comes_late(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, kept) = retained(&instance).await;
    let late = adoption(&id, &kept, AdoptionSource::Retained { since: kept.state_since, granted_from: None });
    database.perform_prevent_adoption(&kept, fence).await.unwrap();
    let refused = database.perform_adopt(&late, &object("gone"), instance.id, fence).await.unwrap_err();
    assert_eq!((refused.class, refused.sqlstate.as_deref()), (ErrorClass::Transient, Some("ATR01")));
    let now = instance.row(&id).await;
    assert_eq!((now.state, now.uid), (RowState::Retained, kept.uid.clone()));

    let (id, _, row) = archived(&instance, "globex").await;
    let (late, gone) = (from_archive(&id, &row), object("gone"));
    let bury = close(&id, None, DeletionPolicy::Retain);
    let bury = agent_tenancy::plan::step::CloseDatabase { replaces: Some(row.incarnation), ..bury };
    database.perform_close(&bury, &gone, instance.id, fence).await.unwrap();
    let refused = database.perform_adopt(&late, &gone, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATR01"));
    assert_eq!(messages(&instance, &row.incarnation.archive_name(&row.schema)).await, 1, "the archive is unchanged");
}

/// Retained by an operator that had fewer migrations: here, none.
async fn tables_brought_up_to_date(version: PgVersion) {
    let instance = in_use(version).await;
    let (id, kept) = retained(&instance).await;
    let s = &kept.schema;
    instance
        .as_admin(&format!(
            "DROP SCHEMA \"{s}\" CASCADE; SET ROLE \"{p}_own_1\"; CREATE SCHEMA \"{s}\"; \
             COMMENT ON SCHEMA \"{s}\" IS '{mark}'; RESET ROLE; UPDATE agent_tenancy.tenants SET schema_version = 0",
            p = instance.prefix,
            mark = render_mark(instance.id, kept.incarnation),
        ))
        .await;
    let kept = instance.row(&id).await;
    let wanted = adoption(&id, &kept, AdoptionSource::Retained { since: kept.state_since, granted_from: None });
    instance.database.perform_adopt(&wanted, &object("acme"), instance.id, &instance.fence).await.unwrap();
    let facts = instance.database.observe_tenant(&id, ReadPurpose::Serving).await.unwrap();
    assert!(is_intact(&facts));
    assert_eq!(facts.row.unwrap().schema_version, TENANT_VERSION);
    write_a_message(&instance, &id).await.unwrap();
}

async fn what_stands_in_the_way(version: PgVersion) {
    let instance = in_use(version).await;
    let (database, fence) = (&instance.database, &instance.fence);
    let (id, _, row) = archived(&instance, "acme").await;
    let name = row.incarnation.archive_name(&row.schema);
    time_is_over(&instance).await;
    let found = database.observe_due_archives(CLUSTER, None, 20).await.unwrap();
    let codes = async || {
        let dropped = database.perform_drop_archive(&found.due[0], instance.id, fence).await.unwrap_err();
        assert_eq!(dropped.class, ErrorClass::Conflict);
        (dropped.sqlstate.unwrap(), dropped.note)
    };
    instance.as_admin(&format!("CREATE SCHEMA r; CREATE VIEW r.v AS SELECT id FROM \"{name}\".messages")).await;
    let (code, note) = codes().await;
    assert_eq!(code, "ATC03");
    assert!(note.contains("r.v"), "{note}");
    instance.as_admin("DROP VIEW r.v").await;
    for kind in ["ROLE", "SCHEMA"] {
        instance.as_admin(&format!("COMMENT ON {kind} \"{name}\" IS 'somebody''s'")).await;
        assert_eq!(codes().await.0, "ATC02");
        let refused = database.perform_adopt(&from_archive(&id, &row), &object("acme"), instance.id, fence).await;
        assert_eq!(refused.unwrap_err().sqlstate.as_deref(), Some("ATC02"), "nor can it be adopted");
        let mark = render_mark(instance.id, row.incarnation);
        instance.as_admin(&format!("COMMENT ON {kind} \"{name}\" IS '{mark}'")).await;
    }
    assert_eq!(messages(&instance, &name).await, 1);

    // A tenant with a foreign mark is not archived, and an existing name is not overwritten.
    let (other, owner, kept) = instance.tenant("globex").await;
    let step = close(&other, Some(kept.clone()), DeletionPolicy::Archive);
    instance.as_admin(&format!("COMMENT ON SCHEMA \"{}\" IS 'x'", kept.schema)).await;
    let refused = database.perform_close(&step, &owner, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("ATC02"));
    let mark = render_mark(instance.id, kept.incarnation);
    let taken = kept.incarnation.archive_name(&kept.role);
    instance.as_admin(&format!("COMMENT ON SCHEMA \"{}\" IS '{mark}'; CREATE ROLE \"{taken}\"", kept.schema)).await;
    let refused = database.perform_close(&step, &owner, instance.id, fence).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Conflict, "{refused:?}");
    assert_eq!(instance.row(&other).await.state, RowState::Active, "all or nothing");
    instance.as_admin(&format!("DROP ROLE \"{taken}\"")).await;
    database.perform_close(&step, &owner, instance.id, fence).await.unwrap();
}

async fn old_leaders_and_killed_backends(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    let (id, _, row) = archived(&instance, "acme").await;
    let (other, owner, active) = instance.tenant("globex").await;
    time_is_over(&instance).await;
    let due = database.observe_due_archives(CLUSTER, None, 20).await.unwrap().due;
    let name = row.incarnation.archive_name(&row.schema);

    // The backend is terminated while it drops the archive: the archive is complete, and a retry drops it.
    let mut blocker = instance.admin().await;
    let lock = format!("BEGIN; LOCK TABLE \"{name}\".messages IN ACCESS SHARE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut blocker).await.unwrap();
    let (dropped, ()) = tokio::join!(
        database.perform_drop_archive(&due[0], instance.id, &instance.fence),
        super::races::terminate_waiting(&instance)
    );
    assert_eq!(dropped.unwrap_err().kind, PgErrorKind::Interrupted);
    blocker.close().await.unwrap();
    assert_eq!(messages(&instance, &name).await, 1);

    database.perform_raise_epoch(CLUSTER, Epoch(5)).await.unwrap();
    let aside = close(&other, Some(active), DeletionPolicy::Archive);
    let old = &instance.fence;
    let refusals = [
        database.perform_close(&aside, &owner, instance.id, old).await,
        database.perform_adopt(&from_archive(&id, &row), &object("acme"), instance.id, old).await,
        database.perform_drop_archive(&due[0], instance.id, old).await.map(drop),
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().kind, PgErrorKind::Fenced);
    }
    let new = EpochFence { epoch: Epoch(5), ..old.clone() };
    assert!(database.perform_drop_archive(&due[0], instance.id, &new).await.unwrap());
    assert_eq!(instance.row(&other).await.state, RowState::Active);
}

/// The owner of a cell administers the roles of its archives as well.
async fn cells_count_archives(version: PgVersion) {
    let instance = in_use(version).await;
    let database = &instance.database;
    for n in 0..50 {
        let (id, owner, row) = instance.tenant(&format!("t{n}")).await;
        if n % 2 == 0 {
            let step = close(&id, Some(row), DeletionPolicy::Archive);
            database.perform_close(&step, &owner, instance.id, &instance.fence).await.unwrap();
        }
    }
    let offer = async |name: &str| {
        database.observe_tenant(&tenant_id(name), ReadPurpose::Serving).await.unwrap().offer.unwrap().cell.0
    };
    database.observe_cells().await.unwrap();
    assert_eq!(offer("new").await, 2, "fifty roles are in the first cell");
    time_is_over(&instance).await;
    let due = database.observe_due_archives(CLUSTER, None, 1).await.unwrap().due;
    assert!(database.perform_drop_archive(&due[0], instance.id, &instance.fence).await.unwrap());
    assert_eq!(offer("newer").await, 1);
}
