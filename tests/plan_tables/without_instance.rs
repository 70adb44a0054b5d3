//! Tenants without a database instance: observed → planned, row by row.

use super::fixtures::{all_done, converged, out_of_service, present, project, untouched, words};
use agent_tenancy::{
    api::{ConditionType as Part, Reason, TenantStatus},
    domain::class::ErrorClass,
    plan::{
        observed::{DatabaseView, ObservedTenant, unplaced::Unplaced},
        report::PartState,
    },
    status::find,
};

pub fn unplaced(o: &mut ObservedTenant, why: Unplaced) {
    (o.instance, o.database) = (None, DatabaseView::Unplaced(why));
}

fn unknown(recorded: bool) -> Unplaced {
    Unplaced::Unknown { name: "gone".into(), recorded, known: vec!["main".into(), "other".into()] }
}

/// Name, what there is otherwise, why it has no instance, and one report.
type Row = (&'static str, fn() -> ObservedTenant, Unplaced, (Part, PartState, Reason));

#[test]
fn a_tenant_without_an_instance_makes_nothing_and_says_why() {
    const CONFLICT: PartState = PartState::Refused(ErrorClass::Conflict);
    let rows: [Row; 6] = [
        ("names an unknown one", untouched, unknown(false), (Part::DatabaseReady, CONFLICT, Reason::InstanceNotFound)),
        ("was in it", converged, unknown(true), (Part::DatabaseReady, CONFLICT, Reason::InstanceNotFound)),
        (
            "none is open",
            untouched,
            Unplaced::Closed(None),
            (Part::DatabaseReady, CONFLICT, Reason::InstanceNotAccepting),
        ),
        (
            "the named one is closed",
            untouched,
            Unplaced::Closed(Some("main".into())),
            (Part::DatabaseReady, CONFLICT, Reason::InstanceNotAccepting),
        ),
        (
            "another one holds its id",
            untouched,
            Unplaced::Taken { holder: Some("other".into()) },
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "one that may hold it is out",
            untouched,
            Unplaced::Unasked { name: "other".into(), held: false },
            (Part::DatabaseReady, PartState::Unread(ErrorClass::Transient), Reason::DatabaseUnavailable),
        ),
    ];
    for (what, world, why, (part, state, reason)) in rows {
        let mut observed = world();
        unplaced(&mut observed, why.clone());
        let plan = present(&observed);
        assert_eq!(words(&plan), "", "{what}");
        let report = plan.reports.iter().find(|report| report.part == part).unwrap();
        assert_eq!((report.state, report.reason), (state, reason), "{what}");
        assert_eq!(report.note, why.render(), "{what}");
    }
}

#[test]
fn a_ready_tenant_without_its_instance_is_stalled_and_keeps_its_status() {
    let status = |observed: &ObservedTenant, previous: &TenantStatus| {
        let plan = present(observed);
        project(Some(observed), &plan, &all_done(&plan), previous, false)
    };
    let ready = status(&converged(), &TenantStatus::default());
    let mut observed = converged();
    unplaced(&mut observed, unknown(true));
    let status = status(&observed, &ready);
    let condition = |part| find(&status.conditions, part).map(|c| (c.status.as_str(), c.reason.as_str()));
    assert_eq!(condition(Part::Ready), Some(("False", "InstanceNotFound")));
    assert_eq!(condition(Part::Stalled), Some(("True", "InstanceNotFound")));
    assert_eq!((&status.database, &status.served), (&ready.database, &ready.served));
    // Out of service it can be taken all the same.
    assert_eq!(words(&out_of_service(&observed)), "PutEntry");
}
