//! Tenants whose id the ledger gives to a cluster that this one was built in place of: observed → planned, row by row.

use super::{
    stage::{facts, facts_of, present, row, untouched, words},
    tenants::{Tweak, stranger},
};
use agent_tenancy::{
    api::{ConditionType as Part, Reason},
    domain::class::ErrorClass,
    plan::{
        observed::{DatabaseView, LedgerRow, ObservedTenant, RowState, render_mark},
        step::{AdoptionSource, TenantStep},
        verdict::Stand,
    },
};

fn left_in(o: &mut ObservedTenant, state: RowState) {
    let row = LedgerRow { cluster_id: "former".to_owned(), ..stranger(state) };
    let mut left = facts(Some(row.clone()), true);
    let mark = Some(render_mark(left.database_id, row.incarnation));
    (left.role_mark, left.schema_mark) = (mark.clone(), mark);
    left.silence_seconds = Some(600);
    o.database = DatabaseView::Facts(left);
}

fn left(o: &mut ObservedTenant) {
    left_in(o, RowState::Active);
}

fn change(o: &mut ObservedTenant, change: impl FnOnce(&mut LedgerRow)) {
    change(facts_of(o).row.as_mut().unwrap());
}

#[test]
fn what_a_former_cluster_left() {
    const TAKES: &str = "AddFinalizer Adopt CreateKeys PutEntry";
    let rows: [(&str, Tweak, &str, &str); 11] = [
        ("in use", left, TAKES, ""),
        ("suspended", |o| left_in(o, RowState::Suspended), TAKES, ""),
        ("on its way out", |o| left_in(o, RowState::Deleting), TAKES, ""),
        (
            "heard of just now",
            |o| {
                left(o);
                facts_of(o).silence_seconds = Some(599);
            },
            "",
            "heard of less than 600 seconds ago",
        ),
        (
            "never heard of",
            |o| {
                left(o);
                facts_of(o).silence_seconds = None;
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
            "only a Tenant of the same namespace and name takes it over",
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
                o.recorded = super::stage::converged().recorded;
                o.finalizer = true;
            },
            "",
            "names another incarnation",
        ),
    ];
    for (name, tweak, steps, note) in rows {
        let mut observed = untouched();
        tweak(&mut observed);
        let plan = present(&observed);
        assert_eq!(words(&plan), steps, "{name}: {:?}", plan.verdicts);
        let verdict = plan.verdicts.iter().find(|v| v.part == Part::Accepted || v.note.contains(note)).unwrap();
        if !note.is_empty() {
            // Time brings it; or somebody has to do something.
            let class = if note.contains("heard of") { ErrorClass::Waiting } else { ErrorClass::Conflict };
            assert_eq!((verdict.stand, verdict.reason), (Stand::Refused(class), Reason::Conflict), "{name}");
            assert!(verdict.note.contains(note), "{name}: {}", verdict.note);
        }
    }
}

#[test]
fn it_is_the_same_data_with_a_new_keyring() {
    let mut observed = untouched();
    left(&mut observed);
    let plan = present(&observed);
    let Some(TenantStep::Adopt(adoption)) = plan.steps.iter().find(|step| matches!(step, TenantStep::Adopt(_))) else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!((adoption.incarnation, &adoption.previous.0[..]), (stranger(RowState::Active).incarnation, "uid-other"));
    assert_eq!(adoption.ring.version, row(RowState::Active).ring.version + 1);
    let source = AdoptionSource::Predecessor { cluster_id: "former".to_owned(), silence_seconds: 600 };
    assert_eq!(adoption.source, source);
    assert_eq!(adoption.describe_owner(), "Tenant uid-other of cluster former");
}
