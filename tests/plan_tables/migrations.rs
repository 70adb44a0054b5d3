//! Tenants with tables that are not the newest, or were changed: observed → planned, row by row.

use super::fixtures::{Tweak, access_of, converged, desired, facts_of, installation, now, untouched, words};
use agent_tenancy::{
    api::{ConditionType as Part, Reason},
    domain::{
        custom_migrations::CustomMigrations,
        migrations::{TENANT, TENANT_VERSION, Track, tenant_checksums, tenant_grants},
    },
    plan::{
        Plan,
        drift::AccessFacts,
        installation::Installation,
        observed::{ObservedTenant, Replicas, applied::MigrationFailure},
        step::{DatabaseStep, TenantStep},
        tenant::{present::plan_tenant, schema::resolve_target},
    },
};

fn own(count: usize) -> Installation {
    let files = (1..=count).map(|n| (format!("{n:04}_own.sql"), format!("SELECT {n};"))).collect();
    Installation { custom_migrations: Some(CustomMigrations::parse(&files).unwrap()), ..installation() }
}

/// The tables of this version, as they were made.
fn at(o: &mut ObservedTenant, version: i32) {
    let row = facts_of(o).row.as_mut().unwrap();
    (row.schema_version, row.schema_checksums) = (version, tenant_checksums(version));
    let grants = tenant_grants(version).unwrap();
    *access_of(o) = AccessFacts::intact(180_000, "at_own_1", "at_acc_1", "at_alpha", &grants);
}

fn old(o: &mut ObservedTenant) {
    at(o, 1);
    if let agent_tenancy::plan::observed::Seen::Ours(view) = &mut o.entry {
        view.entry.as_mut().unwrap().database.location.schema_version = 1;
    }
}

fn turn(o: &mut ObservedTenant) {
    old(o);
    o.admitted = true;
}

fn failed(o: &mut ObservedTenant) {
    turn(o);
    facts_of(o).failure = Some(MigrationFailure {
        track: Track::Base,
        version: 2,
        checksum: TENANT[1].checksum(),
        request: "first".to_owned(),
        message: "relation \"storage\" already exists".to_owned(),
    });
}

fn report(plan: &Plan<TenantStep>) -> (Reason, String) {
    let database = plan.reports.iter().find(|v| v.part == Part::DatabaseReady).unwrap();
    (database.reason, database.note.clone())
}

#[test]
fn tables_are_brought_on_when_it_is_their_turn() {
    type Row = (&'static str, Installation, Tweak, &'static str, Reason);
    let rows: [Row; 17] = [
        ("up to date", installation(), |_| (), "", Reason::Provisioned),
        ("waits for its slot", installation(), old, "", Reason::Provisioned),
        ("its slot", installation(), turn, "Migrate Migrate Migrate PutEntry", Reason::Provisioned),
        (
            "never served: it waits for nobody",
            installation(),
            |o| {
                old(o);
                o.recorded.served = None;
            },
            "Migrate Migrate Migrate PutEntry",
            Reason::Provisioned,
        ),
        (
            "held back by the settings",
            Installation { schema_version: 1, ..installation() },
            turn,
            "",
            Reason::Provisioned,
        ),
        (
            "newer than the settings say: nothing goes back",
            Installation { schema_version: 1, ..installation() },
            |_| (),
            "",
            Reason::Provisioned,
        ),
        (
            "a replica does not know the new tables",
            installation(),
            |o| {
                turn(o);
                o.replicas.all[1].acknowledged.as_mut().unwrap().schema_version = None;
            },
            "",
            Reason::Provisioned,
        ),
        (
            "privileges are repaired first",
            installation(),
            |o| {
                turn(o);
                access_of(o).tables[0].object.acl.as_mut().unwrap().push("=r/at_own_1".to_owned());
            },
            "RepairDatabase Migrate Migrate Migrate PutEntry",
            Reason::Provisioned,
        ),
        (
            "a table of that name is somebody else's",
            installation(),
            |o| {
                let table = access_of(o).tables.iter().find(|t| t.object.name == "storage").unwrap().clone();
                old(o);
                let acl = Some(vec!["evil=arwd/evil".to_owned()]);
                let object =
                    agent_tenancy::plan::drift::ObjectFacts { owner: "evil".to_owned(), acl, ..table.object.clone() };
                access_of(o).tables.push(agent_tenancy::plan::drift::TableFacts { object, ..table });
            },
            "",
            Reason::Provisioned,
        ),
        ("failed", installation(), failed, "", Reason::MigrationFailed),
        (
            "failed, and no retry was requested",
            installation(),
            |o| {
                failed(o);
                o.recorded.retry_migration = Some("first".to_owned());
            },
            "",
            Reason::MigrationFailed,
        ),
        (
            "a requested retry does not wait for a slot",
            installation(),
            |o| {
                failed(o);
                o.admitted = false;
                o.recorded.retry_migration = Some("second".to_owned());
            },
            "Migrate Migrate Migrate PutEntry",
            Reason::Provisioned,
        ),
        (
            "failed with another file: a new chance, in its slot",
            installation(),
            |o| {
                failed(o);
                facts_of(o).failure.as_mut().unwrap().checksum = "another".to_owned();
            },
            "Migrate Migrate Migrate PutEntry",
            Reason::Provisioned,
        ),
        (
            "a file is not what it was",
            installation(),
            |o| {
                turn(o);
                facts_of(o).row.as_mut().unwrap().schema_checksums = vec!["another".to_owned()];
            },
            "",
            Reason::MigrationChanged,
        ),
        (
            "made before checksums were noted",
            installation(),
            |o| {
                turn(o);
                facts_of(o).row.as_mut().unwrap().schema_checksums.clear();
            },
            "Migrate Migrate Migrate PutEntry",
            Reason::Provisioned,
        ),
        (
            "newer than the operator: not even privileges are changed",
            installation(),
            |o| {
                facts_of(o).row.as_mut().unwrap().schema_version = TENANT_VERSION + 1;
                access_of(o).tables[0].object.acl.as_mut().unwrap().push("=r/at_own_1".to_owned());
            },
            "PutEntry",
            Reason::SchemaNewer,
        ),
        ("your own, all that there are", own(2), |o| o.admitted = true, "Migrate Migrate", Reason::Provisioned),
    ];
    for (name, installation, tweak, steps, reason) in rows {
        let mut observed = converged();
        tweak(&mut observed);
        let plan = plan_tenant(&desired(), &observed, &installation, now());
        assert_eq!(words(&plan), steps, "{name}");
        assert_eq!(report(&plan).0, reason, "{name}: {:?}", report(&plan));
    }
}

#[test]
fn what_keeps_a_tenant_back_is_reported_with_the_remedy() {
    let message = |tweak: Tweak, installation: &Installation| {
        let mut observed = converged();
        tweak(&mut observed);
        report(&plan_tenant(&desired(), &observed, installation, now())).1
    };
    let all = [
        (
            message(failed, &installation()),
            vec!["0002_storage.sql failed", "already exists", "agent-tenancy.dev/retry-migration="],
        ),
        (
            message(|o| facts_of(o).row.as_mut().unwrap().schema_version = 99, &installation()),
            vec!["version 99", "needs a newer operator"],
        ),
        (
            message(|o| facts_of(o).row.as_mut().unwrap().schema_checksums = vec!["x".into()], &installation()),
            vec!["0001_base.sql", "as version 1"],
        ),
        (
            message(
                |o| {
                    let own = &mut facts_of(o).row.as_mut().unwrap().own;
                    (own.version, own.checksums) = (1, vec!["x".into()]);
                },
                &own(1),
            ),
            vec!["custom migration 0001_own.sql was changed", "in a new file"],
        ),
        (
            message(|o| facts_of(o).row.as_mut().unwrap().own.version = 3, &own(1)),
            vec!["3 custom migrations were applied", "there are 1 now"],
        ),
    ];
    for (note, words) in all {
        for word in words {
            assert!(note.contains(word), "{word}: {note}");
        }
    }
}

#[test]
fn nobody_gets_tables_that_a_running_replica_does_not_know() {
    let target = |versions: &[Option<i32>]| {
        let mut replicas = Replicas::default();
        for version in versions {
            let mut replica = super::fixtures::replica("r", 100);
            replica.acknowledged.as_mut().unwrap().schema_version = *version;
            replicas.all.push(replica);
        }
        resolve_target(&installation(), &replicas)
    };
    assert_eq!((target(&[]), target(&[Some(99)])), (TENANT_VERSION, TENANT_VERSION));
    assert_eq!((target(&[Some(99), None]), target(&[Some(1), Some(99)])), (1, 1));
    let mut observed = untouched();
    observed.replicas.all[0].acknowledged.as_mut().unwrap().schema_version = Some(1);
    let plan = plan_tenant(&desired(), &observed, &installation(), now());
    let made = plan.steps.iter().find_map(|step| match step {
        TenantStep::Database(DatabaseStep::Provision(made)) => Some(made.schema_version),
        _ => None,
    });
    assert_eq!(made, Some(1), "a new tenant neither");
}
