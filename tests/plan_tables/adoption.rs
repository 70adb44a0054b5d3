//! Tenants that are to take over an earlier one's data: observed → planned, row by row.

use super::fixtures::{
    Tweak, archive, facts, facts_of, present_adopting, project, read_error, row, stranger, untouched, words,
};
use agent_tenancy::{
    api::{ConditionType as Part, Reason, TenantStatus},
    domain::{class::ErrorClass, entry::TenantState},
    plan::{
        observed::{DatabaseView, ObservedTenant, RowState, Seen, render_mark},
        report::PartState,
        step::{AdoptionSource, DatabaseStep, EntryStep, KeysStep, TenantStep},
    },
    status::find,
};

const CONFLICT: PartState = PartState::Refused(ErrorClass::Conflict);
const TAKES: &str = "AddFinalizer Adopt CreateKeys PutEntry";
const PREVIOUS: &str = "uid-other";

fn retained(o: &mut ObservedTenant) {
    let mut kept = facts(Some(stranger(RowState::Retained)), true);
    let mark = Some(render_mark(kept.database_id, stranger(RowState::Retained).incarnation));
    (kept.role_mark, kept.schema_mark) = (mark.clone(), mark);
    o.database = DatabaseView::Facts(kept);
}

fn archived(o: &mut ObservedTenant) {
    let mut free = facts(Some(stranger(RowState::Dropped)), false);
    free.offer = None;
    free.archives = vec![archive(PREVIOUS), archive("uid-third")];
    o.database = DatabaseView::Facts(free);
}

#[test]
fn a_tenant_that_is_to_take_data_over() {
    type Row = (&'static str, Tweak, &'static str, (Part, PartState, Reason));
    let rows: [Row; 15] = [
        ("retained", retained, TAKES, (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned)),
        ("archived", archived, TAKES, (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned)),
        (
            "archived, cell not published",
            |o| {
                archived(o);
                o.cell_entry = false
            },
            "AddFinalizer CreateCell Adopt CreateKeys PutEntry",
            (Part::DatabaseReady, PartState::InProgress, Reason::Provisioned),
        ),
        ("nothing there", |_| (), "", (Part::Accepted, CONFLICT, Reason::AdoptionRefused)),
        (
            "kept by another",
            |o| {
                retained(o);
                facts_of(o).row.as_mut().unwrap().uid.0 = "uid-third".to_owned()
            },
            "",
            (Part::Accepted, CONFLICT, Reason::RetainedDataExists),
        ),
        (
            "archived by another",
            |o| {
                archived(o);
                facts_of(o).archives.remove(0);
            },
            "",
            (Part::Accepted, CONFLICT, Reason::AdoptionRefused),
        ),
        (
            "still in use",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Active)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "still going",
            |o| o.database = DatabaseView::Facts(facts(Some(stranger(RowState::Deleting)), true)),
            "",
            (Part::Accepted, CONFLICT, Reason::Conflict),
        ),
        (
            "schema gone",
            |o| {
                retained(o);
                facts_of(o).schema_mark = None
            },
            "",
            (Part::Accepted, CONFLICT, Reason::AdoptionRefused),
        ),
        (
            "archive with a foreign mark",
            |o| {
                archived(o);
                facts_of(o).archives[0].role_mark = Some("mine".to_owned())
            },
            "",
            (Part::Accepted, CONFLICT, Reason::AdoptionRefused),
        ),
        (
            "newer than this operator",
            |o| {
                archived(o);
                facts_of(o).archives[0].schema_version = 99
            },
            "",
            (Part::Accepted, CONFLICT, Reason::AdoptionRefused),
        ),
        (
            "entry unreadable",
            |o| {
                archived(o);
                o.entry = Seen::Unknown(read_error())
            },
            "",
            (Part::Accepted, PartState::Unread(ErrorClass::Transient), Reason::Retrying),
        ),
        (
            "AgentConfig missing",
            |o| {
                archived(o);
                o.agents.clear()
            },
            "",
            (Part::Accepted, PartState::Refused(ErrorClass::Waiting), Reason::AgentConfigNotFound),
        ),
        (
            // An older state of the database came back.
            "had data before",
            |o| {
                archived(o);
                o.recorded = super::fixtures::converged().recorded;
                o.finalizer = true
            },
            "",
            (Part::DatabaseReady, CONFLICT, Reason::DataLost),
        ),
        (
            "has data",
            |o| {
                *o = super::fixtures::converged();
                facts_of(o).archives.push(archive(PREVIOUS))
            },
            "",
            (Part::Served, PartState::Ready, Reason::Served),
        ),
    ];
    for (name, tweak, steps, (part, state, reason)) in rows {
        let mut observed = untouched();
        tweak(&mut observed);
        let plan = present_adopting(&observed, Some(PREVIOUS));
        assert_eq!(words(&plan), steps, "{name}: {:?}", plan.reports);
        let report = plan.reports.iter().find(|v| v.part == part).unwrap();
        assert_eq!((report.state, report.reason), (state, reason), "{name}: {report:?}");
        let named = report.note.contains("spec.database.adopt.previousUid");
        assert_eq!(
            named,
            matches!(reason, Reason::AdoptionRefused | Reason::RetainedDataExists),
            "{name}: {}",
            report.note
        );
    }
}

#[test]
fn what_is_taken_over_is_the_same_data_with_a_new_keyring() {
    for (tweak, version) in [(retained as Tweak, 2), (archived, 5)] {
        let mut observed = untouched();
        tweak(&mut observed);
        let plan = present_adopting(&observed, Some(PREVIOUS));
        let [
            _,
            TenantStep::Database(DatabaseStep::Adopt(adoption)),
            TenantStep::Keys(KeysStep::Create { keyring }),
            TenantStep::Entry(EntryStep::Put { entry, .. }),
        ] = &plan.steps[..]
        else {
            panic!("{:?}", plan.steps)
        };
        assert_eq!(adoption.incarnation, archive(PREVIOUS).incarnation);
        assert_eq!((entry.incarnation, entry.state), (adoption.incarnation, TenantState::Active));
        assert_eq!(
            (&adoption.schema, &entry.database.location.schema),
            (&"at_alpha".to_owned(), &"at_alpha".to_owned())
        );
        assert_eq!(
            (keyring.version(), keyring.mark()),
            (version, adoption.keyring.clone()),
            "it follows the last keyring"
        );
        match &adoption.source {
            AdoptionSource::Retained { since } => assert_eq!(*since, row(RowState::Retained).state_since),
            AdoptionSource::Predecessor { .. } => panic!("it belongs to this cluster"),
            AdoptionSource::Archived { schema, replaces, .. } => {
                assert_eq!(schema, "at_alpha_00000000007");
                assert_eq!(*replaces, Some(adoption.incarnation), "in place of the tombstone");
                assert_eq!(adoption.cell.0, 3);
            }
        }
        let status =
            project(Some(&observed), &plan, &super::fixtures::all_done(&plan), &TenantStatus::default(), false);
        assert_eq!(status.database.unwrap().incarnation, adoption.incarnation.to_string());
    }
}

/// Only the namespace that the data belonged to learns what could be taken over.
#[test]
fn archives_of_other_namespaces_are_not_named() {
    let mut observed = untouched();
    archived(&mut observed);
    let facts = facts_of(&mut observed);
    facts.archives[0].namespace = "b".to_owned();
    let note = |o: &ObservedTenant| {
        let plan = present_adopting(o, Some("uid-unknown"));
        plan.reports[0].note.clone()
    };
    let text = note(&observed);
    assert!(text.contains("uid-third") && !text.contains(PREVIOUS), "{text}");
    println!("{text}");
    facts_of(&mut observed).archives.remove(1);
    assert!(!note(&observed).contains("archives"), "{}", note(&observed));
}

/// A refused Tenant is terminal: a person has to write something else.
#[test]
fn a_refused_adoption_is_stalled() {
    let observed = untouched();
    let plan = present_adopting(&observed, Some(PREVIOUS));
    let status = project(Some(&observed), &plan, &super::fixtures::all_done(&plan), &TenantStatus::default(), false);
    let reason = |part| find(&status.conditions, part).map(|c| (c.status.as_str(), c.reason.as_str()));
    assert_eq!(reason(Part::Ready), Some(("False", "AdoptionRefused")));
    assert_eq!(reason(Part::Stalled), Some(("True", "AdoptionRefused")));
    assert!(status.database.is_none());
}
