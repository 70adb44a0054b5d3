//! Tenants with an id that the ledger assigns to a cluster that this one replaced: observed → planned, row by row.

use super::fixtures::{
    Tweak, facts, facts_of, installation, object, present, row, stranger, tenant_id, untouched, words,
};
use agent_tenancy::{
    api::{ConditionType as Part, Reason},
    domain::{class::ErrorClass, ident::Uid},
    plan::{
        observed::{DatabaseView, LedgerRow, ObservedTenant, RowState, render_mark, takeover_grant::TakeoverGrant},
        report::PartState,
        step::{AdoptionSource, DatabaseStep, TenantStep},
        takeover_request::{Applicant, judge_request},
    },
};

pub fn left_in(o: &mut ObservedTenant, state: RowState) {
    let row = LedgerRow { cluster_id: "former".to_owned(), ..stranger(state) };
    let mut left = facts(Some(row.clone()), true);
    let mark = Some(render_mark(left.database_id, row.incarnation));
    (left.role_mark, left.schema_mark) = (mark.clone(), mark);
    left.heartbeat_age_seconds = Some(600);
    o.database = DatabaseView::Facts(left);
}

fn left(o: &mut ObservedTenant) {
    left_in(o, RowState::Active);
}

pub fn change(o: &mut ObservedTenant, change: impl FnOnce(&mut LedgerRow)) {
    change(facts_of(o).row.as_mut().unwrap());
}

const TAKES: &str = "AddFinalizer Adopt CreateKeys PutEntry";

/// A world, the steps that are planned, and a part of the message.
type Rows<'a> = &'a [(&'a str, Tweak, &'a str, &'a str)];

fn check(rows: Rows) {
    for (name, tweak, steps, note) in rows {
        let mut observed = untouched();
        tweak(&mut observed);
        let plan = present(&observed);
        assert_eq!(words(&plan), *steps, "{name}: {:?}", plan.reports);
        let report = plan.reports.iter().find(|v| v.part == Part::Accepted || v.note.contains(note)).unwrap();
        if !note.is_empty() {
            // Time brings it; or somebody has to do something.
            let class = if note.contains("heard of") { ErrorClass::Waiting } else { ErrorClass::Conflict };
            assert_eq!((report.state, report.reason), (PartState::Refused(class), Reason::Conflict), "{name}");
            assert!(report.note.contains(note), "{name}: {}", report.note);
        }
    }
}

#[test]
fn what_a_former_cluster_left() {
    let rows: [(&str, Tweak, &str, &str); 11] = [
        ("in use", left, TAKES, ""),
        ("suspended", |o| left_in(o, RowState::Suspended), TAKES, ""),
        ("on its way out", |o| left_in(o, RowState::Deleting), TAKES, ""),
        (
            "heard of just now",
            |o| {
                left(o);
                facts_of(o).heartbeat_age_seconds = Some(599);
            },
            "",
            "heard of less than 600 seconds ago",
        ),
        (
            "never heard of",
            |o| {
                left(o);
                facts_of(o).heartbeat_age_seconds = None;
            },
            "",
            "heard of less than 600 seconds ago",
        ),
        (
            "a cluster that nobody named",
            |o| {
                left(o);
                change(o, |row| row.cluster_id = "other".to_owned());
            },
            "",
            "the ledger gives this tenant id to Tenant a/alpha",
        ),
        (
            "another namespace",
            |o| {
                left(o);
                change(o, |row| row.namespace = "b".to_owned());
            },
            "",
            "this tenant id is taken",
        ),
        (
            "another name",
            |o| {
                left(o);
                change(o, |row| row.name = "beta".to_owned());
            },
            "",
            "only a Tenant of the same namespace and name takes it over",
        ),
        (
            "without its role",
            |o| {
                left(o);
                facts_of(o).role_mark = None;
            },
            "",
            "role or schema of UID uid-other is gone",
        ),
        (
            "another data's schema",
            |o| {
                left(o);
                facts_of(o).schema_mark = Some("somebody's".to_owned());
            },
            "",
            "carries another mark than the ledger",
        ),
        (
            "not what the status names",
            |o| {
                left(o);
                o.recorded = super::fixtures::converged().recorded;
                o.finalizer = true;
            },
            "",
            "names another incarnation",
        ),
    ];
    check(&rows);
}

#[test]
fn it_is_the_same_data_with_a_new_keyring() {
    let mut observed = untouched();
    left(&mut observed);
    let plan = present(&observed);
    let Some(TenantStep::Database(DatabaseStep::Adopt(adoption))) =
        plan.steps.iter().find(|step| matches!(step, TenantStep::Database(DatabaseStep::Adopt(_))))
    else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!((adoption.incarnation, &adoption.previous.0[..]), (stranger(RowState::Active).incarnation, "uid-other"));
    assert_eq!(adoption.keyring.version, row(RowState::Active).keyring.version + 1);
    let source = AdoptionSource::Predecessor {
        cluster_id: "former".to_owned(),
        heartbeat_timeout_seconds: 600,
        by_permission: false,
    };
    assert_eq!(adoption.source, source);
    assert_eq!(adoption.describe_owner(), "Tenant uid-other of cluster former");
}

/// As `left`, in a cluster that no setting names, with the data allowed to this Tenant.
fn allowed(o: &mut ObservedTenant) {
    left(o);
    change(o, |row| row.cluster_id = "other".to_owned());
    facts_of(o).permitted = vec![grant("cluster", "uid-alpha")];
}

fn grant(cluster_id: &str, uid: &str) -> TakeoverGrant {
    TakeoverGrant { cluster_id: cluster_id.to_owned(), uid: Uid(uid.to_owned()) }
}

#[test]
fn what_a_person_allowed() {
    let rows: [(&str, Tweak, &str, &str); 9] = [
        ("this Tenant", allowed, TAKES, ""),
        (
            "another life of this Tenant",
            |o| {
                allowed(o);
                facts_of(o).permitted = vec![grant("cluster", "uid-earlier"), grant("third", "uid-alpha")];
            },
            "",
            "previousClusterIds, or let this Tenant alone take it over: kubectl tenant takeover alpha --from other",
        ),
        (
            "nobody",
            |o| {
                allowed(o);
                facts_of(o).permitted = Vec::new();
            },
            "",
            "of cluster other: if that cluster is lost",
        ),
        (
            "what is this cluster's own",
            |o| {
                allowed(o);
                change(o, |row| row.cluster_id = "cluster".to_owned());
            },
            "",
            "to Tenant a/alpha (UID uid-other)",
        ),
        (
            "heard of just now",
            |o| {
                allowed(o);
                facts_of(o).heartbeat_age_seconds = Some(599);
            },
            "",
            "heard of less than 600 seconds ago",
        ),
        (
            "another name",
            |o| {
                allowed(o);
                change(o, |row| row.name = "beta".to_owned());
            },
            "",
            "this tenant id is taken",
        ),
        (
            "without its role",
            |o| {
                allowed(o);
                facts_of(o).role_mark = None;
            },
            "",
            "role or schema of UID uid-other is gone",
        ),
        (
            "tables of a newer version",
            |o| {
                allowed(o);
                change(o, |row| row.schema_version = 1000);
            },
            "",
            "it needs a newer operator",
        ),
        (
            "not what the status names",
            |o| {
                allowed(o);
                o.recorded = super::fixtures::converged().recorded;
                o.finalizer = true;
            },
            "",
            "names another incarnation",
        ),
    ];
    check(&rows);
}

#[test]
fn a_permission_is_used_only_where_the_settings_name_nobody() {
    for (cluster, by_permission) in [("other", true), ("former", false)] {
        let mut observed = untouched();
        allowed(&mut observed);
        change(&mut observed, |row| row.cluster_id = cluster.to_owned());
        let plan = present(&observed);
        let found = plan.steps.iter().find_map(|step| match step {
            TenantStep::Database(DatabaseStep::Adopt(adoption)) => Some(adoption.source.clone()),
            _ => None,
        });
        let cluster_id = cluster.to_owned();
        assert_eq!(
            found,
            Some(AdoptionSource::Predecessor { cluster_id, heartbeat_timeout_seconds: 600, by_permission })
        );
    }
}

#[test]
fn only_what_the_ledger_says_can_be_allowed() {
    type Wanted<'a> = Result<(bool, u64), &'a str>;
    let rows: [(&str, Tweak, &str, Wanted); 11] = [
        ("silent", allowed, "other", Ok((false, 0))),
        (
            "silent for a while",
            |o| {
                allowed(o);
                facts_of(o).heartbeat_age_seconds = Some(10)
            },
            "other",
            Ok((false, 590)),
        ),
        (
            "never heard of",
            |o| {
                allowed(o);
                facts_of(o).heartbeat_age_seconds = None
            },
            "other",
            Ok((false, 600)),
        ),
        (
            "on its way out",
            |o| {
                allowed(o);
                change(o, |row| row.state = RowState::Deleting)
            },
            "other",
            Ok((false, 0)),
        ),
        (
            "done",
            |o| {
                allowed(o);
                change(o, |row| row.uid = object().uid)
            },
            "other",
            Ok((true, 0)),
        ),
        ("a third", allowed, "third", Err("of cluster other, not of cluster third")),
        ("itself", allowed, "cluster", Err("of cluster other, not of cluster cluster")),
        ("nothing", allowed, "", Err("must be the id of a cluster")),
        (
            "another name",
            |o| {
                allowed(o);
                change(o, |row| row.name = "beta".to_owned())
            },
            "other",
            Err("same namespace"),
        ),
        (
            "nobody's",
            |o| {
                allowed(o);
                facts_of(o).row = None
            },
            "other",
            Err("to nobody"),
        ),
        (
            "kept",
            |o| {
                allowed(o);
                change(o, |row| row.state = RowState::Retained)
            },
            "other",
            Err("previousUid to uid-other"),
        ),
    ];
    for (name, tweak, from, wanted) in rows {
        let mut observed = untouched();
        tweak(&mut observed);
        let (tenant_id, object) = (tenant_id(), object());
        let applicant = Applicant { tenant_id: &tenant_id, object: &object, previous: None, all_namespaces: true };
        let judged = judge_request(applicant, Some(from), facts_of(&mut observed), &installation());
        match (judged, wanted) {
            (Ok((answer, permission)), Ok((done, seconds))) => {
                assert_eq!((answer.done, answer.wait_seconds), (done, seconds), "{name}");
                assert_eq!(answer.incarnation, stranger(RowState::Active).incarnation, "{name}");
                assert_eq!(
                    permission.map(|p| (p.previous.0, p.from_cluster_id)),
                    (!done).then(|| ("uid-other".to_owned(), "other".to_owned())),
                    "{name}"
                );
            }
            (Err(why), Err(part)) => assert!(why.to_string().contains(part), "{name}: {why}"),
            (judged, _) => panic!("{name}: {judged:?}"),
        }
    }
}
