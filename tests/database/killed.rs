//! The backend is killed at every statement of every change: the change is done as a whole or not at all, and a retry
//! completes it.
//!
//! Triggers count the statements and kill: event triggers before and after each DDL statement, row triggers on the ledger,
//! and one that fires at COMMIT. Statements about roles fire no trigger; they are between others that do.

use super::{
    archives::adoption,
    life::{close, write_a_message},
    migrations::{next, old_tenant},
    setup::{CLUSTER, Instance, Steps, in_use, is_intact, object, on_both, tenant_id},
    takeover::permission,
};
use agent_tenancy::{
    api::DeletionPolicy,
    domain::{
        ident::{Epoch, ObjectId, TenantId},
        migrations::TENANT_VERSION,
    },
    effects::postgres::{EpochFence, PgError, PgErrorKind, ReadPurpose},
    plan::{
        drift::{Drift, Place},
        observed::{LedgerRow, RowState},
        step::{AdoptionSource, Provision},
    },
};
use devkit::PgVersion;
use sqlx::{AssertSqlSafe, PgConnection};

on_both!(at_every_statement);

pub const KILLER: &str = "
CREATE SCHEMA chaos;
CREATE SEQUENCE chaos.seen;
CREATE TABLE chaos.target (n bigint);
INSERT INTO chaos.target VALUES (0);
CREATE FUNCTION chaos.maybe() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT t.n FROM chaos.target t) = 0 THEN
        RETURN;
    END IF;
    IF nextval('chaos.seen') = (SELECT t.n FROM chaos.target t) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(30);
    END IF;
END $$;
CREATE FUNCTION chaos.at_statement() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM chaos.maybe(); END $$;
CREATE FUNCTION chaos.at_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN PERFORM chaos.maybe(); RETURN NULL; END $$;
CREATE EVENT TRIGGER chaos_begin ON ddl_command_start EXECUTE FUNCTION chaos.at_statement();
CREATE EVENT TRIGGER chaos_end ON ddl_command_end EXECUTE FUNCTION chaos.at_statement();
CREATE TRIGGER chaos_row AFTER INSERT OR UPDATE OR DELETE ON agent_tenancy.tenants
    FOR EACH ROW EXECUTE FUNCTION chaos.at_row();
CREATE TRIGGER chaos_row AFTER INSERT OR UPDATE OR DELETE ON agent_tenancy.archives
    FOR EACH ROW EXECUTE FUNCTION chaos.at_row();
CREATE TRIGGER chaos_row AFTER INSERT OR UPDATE OR DELETE ON agent_tenancy.cells
    FOR EACH ROW EXECUTE FUNCTION chaos.at_row();
CREATE CONSTRAINT TRIGGER chaos_commit AFTER INSERT OR UPDATE OR DELETE ON agent_tenancy.cells
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chaos.at_row();
CREATE CONSTRAINT TRIGGER chaos_commit AFTER INSERT OR UPDATE OR DELETE ON agent_tenancy.tenants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chaos.at_row();";

#[derive(Clone, Copy, Debug)]
enum Change {
    Provision,
    Suspend,
    Resume,
    Revoke,
    Repair,
    Migrate,
    Retain,
    Archive,
    Delete,
    AdoptRetained,
    AdoptArchived,
    TakeOver,
    TakeOverAllowed,
    DropArchive,
}

const ALL: [Change; 14] = [
    Change::Provision,
    Change::Suspend,
    Change::Resume,
    Change::Revoke,
    Change::Repair,
    Change::Migrate,
    Change::Retain,
    Change::Archive,
    Change::Delete,
    Change::AdoptRetained,
    Change::AdoptArchived,
    Change::TakeOver,
    Change::TakeOverAllowed,
    Change::DropArchive,
];

/// The tenant that is changed.
struct Subject {
    id: TenantId,
    owner: ObjectId,
    row: Option<LedgerRow>,
    wanted: Provision,
}

impl Subject {
    fn row(&self) -> &LedgerRow {
        self.row.as_ref().unwrap()
    }
}

/// Runs SQL over one connection, because connecting takes longer than the statement.
pub async fn run(admin: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(admin).await.unwrap();
}

async fn prepare(instance: &Instance, admin: &mut PgConnection, change: Change, name: &str) -> Subject {
    let (database, fence) = (&instance.database, &instance.fence);
    let id = tenant_id(name);
    if matches!(change, Change::Provision) {
        let wanted = instance.provision(&id);
        return Subject { id, owner: object(name), row: None, wanted };
    }
    let (id, owner, row) = match change {
        Change::Migrate => old_tenant(instance, name).await,
        _ => instance.tenant(name).await,
    };
    write_a_message(instance, &id).await.unwrap();
    let wanted = instance.provision(&id);
    let ended = |policy| close(&id, Some(row.clone()), policy);
    match change {
        Change::Resume => database.perform_suspend_access(&row, fence).await.unwrap(),
        Change::Repair => {
            let spoil = format!("REVOKE SELECT ON \"{}\".messages FROM \"{}\"", row.schema, row.role);
            run(admin, &spoil).await;
        }
        Change::AdoptRetained => {
            database.perform_close(&ended(DeletionPolicy::Retain), &owner, instance.id, fence).await.unwrap();
        }
        Change::AdoptArchived | Change::DropArchive => {
            database.perform_close(&ended(DeletionPolicy::Archive), &owner, instance.id, fence).await.unwrap();
            // No other archive is due.
            let due = format!(
                "UPDATE agent_tenancy.archives SET drop_after = now() + \
                 CASE tenant_id WHEN '{id}' THEN interval '-1 s' ELSE interval '1 d' END"
            );
            run(admin, &due).await;
        }
        Change::TakeOver | Change::TakeOverAllowed => {
            let old = format!("UPDATE agent_tenancy.tenants SET cluster_id = 'lost' WHERE tenant_id = '{id}'");
            run(admin, &old).await;
        }
        Change::Provision
        | Change::Suspend
        | Change::Revoke
        | Change::Migrate
        | Change::Retain
        | Change::Archive
        | Change::Delete => {}
    }
    let row = instance.row(&id).await;
    let owner = match change {
        Change::AdoptRetained | Change::AdoptArchived | Change::TakeOver | Change::TakeOverAllowed => object(name),
        Change::Provision
        | Change::Suspend
        | Change::Resume
        | Change::Revoke
        | Change::Repair
        | Change::Migrate
        | Change::Retain
        | Change::Archive
        | Change::Delete
        | Change::DropArchive => owner,
    };
    if matches!(change, Change::TakeOverAllowed) {
        let permission = permission(&id, &row);
        database.perform_allow_takeover(&permission, &owner, "somebody", fence).await.unwrap();
    }
    Subject { id, owner, row: Some(row), wanted }
}

async fn make(instance: &Instance, change: Change, subject: &Subject) -> Result<(), PgError> {
    let (database, fence, owner) = (&instance.database, &instance.fence, &subject.owner);
    let adopt = async |source| {
        database.perform_adopt(&adoption(&subject.id, subject.row(), source), &subject.owner, instance.id, fence).await
    };
    let end = async |policy| {
        let step = close(&subject.id, subject.row.clone(), policy);
        database.perform_close(&step, owner, instance.id, fence).await
    };
    match change {
        Change::Provision => database.perform_provision(&subject.wanted, owner, instance.id, fence).await,
        Change::Suspend => database.perform_suspend_access(subject.row(), fence).await,
        Change::Resume => database.perform_resume_access(subject.row(), fence).await,
        Change::Revoke => database.perform_revoke_access(subject.row(), fence).await,
        Change::Repair => {
            let on = Place::Table("messages".to_owned());
            let lost = Drift::PrivilegeLost { on, from: subject.row().role.clone(), privileges: vec!["SELECT"] };
            database.perform_repair(subject.row(), &[lost], instance.id, fence).await
        }
        Change::Migrate => database.perform_migrate(&next(subject.row()), instance.id, fence).await,
        Change::Retain => end(DeletionPolicy::Retain).await,
        Change::Archive => end(DeletionPolicy::Archive).await,
        Change::Delete => end(DeletionPolicy::Delete).await,
        Change::AdoptRetained => {
            adopt(AdoptionSource::Retained { since: subject.row().state_since, granted_from: None }).await
        }
        Change::AdoptArchived => {
            let name = subject.row().incarnation.archive_name(&subject.row().schema);
            let replaces = Some(subject.row().incarnation);
            adopt(AdoptionSource::Archived { schema: name.clone(), role: name, replaces, granted_from: None }).await
        }
        Change::TakeOver | Change::TakeOverAllowed => {
            let by_permission = matches!(change, Change::TakeOverAllowed);
            adopt(AdoptionSource::Predecessor {
                cluster_id: "lost".to_owned(),
                heartbeat_timeout_seconds: 10,
                by_permission,
            })
            .await
        }
        Change::DropArchive => match database.observe_due_archives(CLUSTER, None, 20).await?.due.first() {
            Some(due) => database.perform_drop_archive(due, instance.id, fence).await.map(drop),
            None => Ok(()),
        },
    }
}

/// Compares the end state with that of an undisturbed change.
async fn check(instance: &Instance, admin: &mut PgConnection, change: Change, subject: &Subject, when: &str) {
    let facts = instance.database.observe_tenant(&subject.id, ReadPurpose::Serving).await.unwrap();
    let state = facts.row.as_ref().unwrap().state;
    let expected = match change {
        Change::Suspend => RowState::Suspended,
        Change::Revoke => RowState::Deleting,
        Change::Retain => RowState::Retained,
        Change::Archive | Change::Delete | Change::DropArchive => RowState::Dropped,
        Change::Provision
        | Change::Resume
        | Change::Repair
        | Change::Migrate
        | Change::AdoptRetained
        | Change::AdoptArchived
        | Change::TakeOver
        | Change::TakeOverAllowed => RowState::Active,
    };
    assert_eq!(state, expected, "{when}");
    assert_eq!(facts.schema_mark.is_none(), state == RowState::Dropped, "{when}");
    assert_eq!(facts.role_mark.is_none(), state == RowState::Dropped, "{when}");
    assert!(!state.in_use() || is_intact(&facts), "{when}");
    let version = facts.row.as_ref().map(|row| row.schema_version);
    let wanted = match (change, &subject.row) {
        (Change::Migrate, Some(row)) => row.schema_version + 1,
        _ => TENANT_VERSION,
    };
    assert_eq!(version, Some(wanted), "{when}");
    let kept = i64::from(matches!(change, Change::Archive));
    let archives = format!("SELECT count(*) FROM agent_tenancy.archives WHERE tenant_id = '{}'", subject.id);
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(archives)).fetch_one(&mut *admin).await.unwrap();
    assert_eq!(found, kept, "{when}");
    if matches!(change, Change::TakeOverAllowed) {
        let recorded = format!(
            "SELECT (SELECT count(*) FROM agent_tenancy.takeovers WHERE tenant_id = '{0}' AND allowed_by = 'somebody') \
             - (SELECT count(*) FROM agent_tenancy.takeover_permissions WHERE tenant_id = '{0}')",
            subject.id
        );
        let once: i64 = sqlx::query_scalar(AssertSqlSafe(recorded)).fetch_one(admin).await.unwrap();
        assert_eq!(once, 1, "{when}");
    }
}

async fn at_every_statement(version: PgVersion) {
    let instance = in_use(version).await;
    let mut admin = instance.admin().await;
    run(&mut admin, KILLER).await;
    let lost = EpochFence { cluster_id: "lost".to_owned(), epoch: Epoch(1) };
    instance.database.perform_raise_epoch(&lost.cluster_id, lost.epoch).await.unwrap();
    run(&mut admin, "UPDATE agent_tenancy.heartbeats SET seen_at = now() - interval '1 h' WHERE cluster_id = 'lost'")
        .await;
    let mut kills = 0;
    for change in ALL {
        // One statement later each time, until the change is complete before the kill.
        for n in 1.. {
            let name = format!("{change:?}{n}").to_ascii_lowercase();
            let subject = prepare(&instance, &mut admin, change, &name).await;
            let arm = |n: u64| format!("SELECT setval('chaos.seen', 1, false); UPDATE chaos.target SET n = {n}");
            run(&mut admin, &arm(n)).await;
            let first = make(&instance, change, &subject).await;
            run(&mut admin, &arm(0)).await;
            let when = format!("{change:?}, killed at {n}");
            match &first {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind, PgErrorKind::Interrupted, "{when}: {error}"),
            }
            make(&instance, change, &subject).await.unwrap_or_else(|error| panic!("{when}: {error}"));
            check(&instance, &mut admin, change, &subject, &when).await;
            if first.is_ok() {
                assert!(n > 1, "{change:?} was never killed");
                println!("{change:?}: killed at {} moments", n - 1);
                break;
            }
            kills += 1;
        }
    }
    println!("Postgres {}: {kills} kills", version.major());
}
