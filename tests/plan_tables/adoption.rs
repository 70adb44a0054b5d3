//! Tenants that are to take over an earlier one's data: observed → planned, row by row.

use super::fixtures::{
    Tweak, absent, archive, facts, facts_of, object, present_adopting, project, read_error, row, stranger, untouched,
    words,
};
use agent_tenancy::{
    api::{ConditionType as Part, DeletionPolicy, Reason, TenantStatus},
    domain::{
        class::ErrorClass,
        entry::TenantState,
        ident::{ObjectId, Uid},
    },
    plan::{
        observed::{
            DatabaseView, ObservedTenant, Presence, RowState, Seen, render_mark, takeover_grant::TakeoverGrant,
        },
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
            AdoptionSource::Retained { since, granted_from } => {
                assert_eq!((*since, granted_from), (row(RowState::Retained).state_since, &None));
            }
            AdoptionSource::Predecessor { .. } => panic!("it belongs to this cluster"),
            AdoptionSource::Archived { schema, replaces, granted_from, .. } => {
                assert_eq!(*granted_from, None);
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

fn elsewhere(o: &mut ObservedTenant) {
    let facts = facts_of(o);
    facts.archives.iter_mut().for_each(|archive| archive.namespace = "b".to_owned());
    facts.row.iter_mut().for_each(|row| row.namespace = "b".to_owned());
}

fn granted(o: &mut ObservedTenant) {
    let grant = TakeoverGrant { cluster_id: "cluster".to_owned(), uid: object().uid };
    let facts = facts_of(o);
    facts.permitted.push(grant.clone());
    facts.archives[..].iter_mut().for_each(|archive| archive.permitted.push(grant.clone()));
}

/// The words of a plan and the note on `Accepted`.
fn answered(observed: &ObservedTenant, previous: &str) -> (String, String) {
    let plan = present_adopting(observed, Some(previous));
    (words(&plan), plan.reports[0].note.clone())
}

#[test]
fn kept_data_of_another_namespace_needs_a_grant_and_is_not_described() {
    for kept in [retained as Tweak, archived] {
        let mut observed = untouched();
        kept(&mut observed);
        elsewhere(&mut observed);
        let (steps, known) = answered(&observed, PREVIOUS);
        assert_eq!(steps, "", "{known}");
        let (_, unknown) = answered(&observed, "uid-guessed");
        assert_eq!(
            known.replace(PREVIOUS, "UID"),
            unknown.replace("uid-guessed", "UID"),
            "a right guess learns nothing"
        );
        for secret in ["b/alpha", "uid-third", "at_alpha", "at_beta"] {
            assert!(!known.contains(secret), "{secret}: {known}");
        }
        granted(&mut observed);
        let plan = present_adopting(&observed, Some(PREVIOUS));
        assert_eq!(words(&plan), TAKES, "{:?}", plan.reports);
        let Some(TenantStep::Database(DatabaseStep::Adopt(adoption))) = plan.steps.get(1) else { panic!("{plan:?}") };
        let (AdoptionSource::Retained { granted_from, .. } | AdoptionSource::Archived { granted_from, .. }) =
            &adoption.source
        else {
            panic!("{adoption:?}")
        };
        assert_eq!(granted_from.as_deref(), Some("cluster"), "the grant is used up");
    }
}

#[test]
fn a_namespace_of_another_cluster_is_another_namespace_unless_that_cluster_is_a_predecessor() {
    for (cluster_id, taken) in [("other", false), ("former", true)] {
        for kept in [retained as Tweak, archived] {
            let mut observed = untouched();
            kept(&mut observed);
            let facts = facts_of(&mut observed);
            facts.archives.iter_mut().for_each(|archive| archive.cluster_id = cluster_id.to_owned());
            facts.row.iter_mut().for_each(|row| row.cluster_id = cluster_id.to_owned());
            let (steps, note) = answered(&observed, PREVIOUS);
            assert_eq!(steps == TAKES, taken, "{cluster_id}: {note}");
        }
    }
}

/// Whatever the ledger, the registry or another object says of a tenant id, a Tenant of another namespace learns that the
/// id is taken, and nothing of its owner.
#[test]
fn owners_in_other_namespaces_are_not_named() {
    let rival = ObjectId { namespace: "b".to_owned(), name: "older".to_owned(), uid: Uid("uid-older".to_owned()) };
    let mut worlds: Vec<ObservedTenant> = RowState::ALL
        .into_iter()
        .map(|state| {
            let mut observed = untouched();
            observed.database = DatabaseView::Facts(facts(Some(stranger(state)), true));
            elsewhere(&mut observed);
            observed
        })
        .collect();
    worlds.push(ObservedTenant { rival: Some(rival), ..untouched() });
    for observed in worlds {
        let plan = present_adopting(&observed, None);
        assert_eq!(words(&plan), "");
        let report = &plan.reports[0];
        assert_eq!((report.part, report.reason), (Part::Accepted, Reason::Conflict), "{:?}", observed.row());
        assert_eq!(report.note, "this tenant id is taken; choose another tenant id");
    }
}

/// A Tenant that has nothing to do with kept data doesn't touch it when it is deleted.
#[test]
fn a_deleted_tenant_prevents_only_an_adoption_that_it_may_have_begun() {
    let mut observed = untouched();
    retained(&mut observed);
    (observed.finalizer, observed.object) = (true, Presence::Gone);
    let prevents = |o: &ObservedTenant| words(&absent(o, DeletionPolicy::Delete)).contains("PreventAdoption");
    assert!(prevents(&observed), "kept for its namespace");
    elsewhere(&mut observed);
    assert!(!prevents(&observed), "kept for another one");
    granted(&mut observed);
    assert!(prevents(&observed), "with a grant");
}
