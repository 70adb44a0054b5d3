//! Every combination of what can be seen: no plan does what it must not.

use super::fixtures::{
    absent, all_done, archive, converged, facts, object, out_of_service, present_adopting, project, read_error, row,
    set_member, untouched, word,
};
use agent_tenancy::{
    api::{DeletionPolicy, TenantStatus},
    domain::{
        entry::TenantState,
        ident::{DatabaseId, Incarnation, Uid},
        keyring::KeyringError,
    },
    plan::{
        Plan,
        observed::{DatabaseView, EntryView, LedgerRow, ObservedTenant, Presence, RowState, Seen, unplaced::Unplaced},
        report::PartState,
        step::{DatabaseStep, EntryStep, ObjectStep, TenantStep},
    },
};
use uuid::Uuid;

fn databases() -> Vec<DatabaseView> {
    let stranger = |state| {
        let incarnation = Incarnation(Uuid::from_u128(7));
        LedgerRow { uid: Uid("uid-other".to_owned()), incarnation, ..row(state) }
    };
    let mut all = vec![
        DatabaseView::Unknown(read_error()),
        DatabaseView::Changed { expected: DatabaseId(Uuid::nil()), found: None },
        DatabaseView::Unplaced(Unplaced::Closed(None)),
        DatabaseView::Facts(facts(None, false)),
        DatabaseView::Facts(facts(None, true)),
    ];
    for state in RowState::ALL {
        for there in [true, false] {
            all.push(DatabaseView::Facts(facts(Some(row(state)), there)));
            all.push(DatabaseView::Facts(facts(Some(stranger(state)), there)));
        }
    }
    for state in [None, Some(RowState::Dropped), Some(RowState::Active)] {
        let mut archived = facts(state.map(stranger), false);
        archived.archives.push(archive("uid-other"));
        all.push(DatabaseView::Facts(archived));
    }
    let mut drifted = converged();
    set_member(&mut drifted, false);
    all.push(drifted.database);
    all
}

fn worlds() -> Vec<ObservedTenant> {
    let whole = converged();
    let Seen::Ours(mut damaged_keys) = whole.keys.clone() else { unreachable!() };
    damaged_keys.keyring = Err(KeyringError::Mismatch);
    let foreign = "not ours".to_owned();
    let keys = [
        whole.keys.clone(),
        Seen::Ours(damaged_keys),
        Seen::Missing,
        Seen::Foreign(foreign.clone()),
        Seen::Unknown(read_error()),
    ];
    let Seen::Ours(view) = whole.entry.clone() else { unreachable!() };
    let mut damaged = view.clone();
    damaged.entry = None;
    let mut deleting = view.clone();
    let mut suspended = view.clone();
    suspended.entry.as_mut().unwrap().state = TenantState::Suspended;
    deleting.entry.as_mut().unwrap().state = TenantState::Deleting;
    let entries = [
        whole.entry.clone(),
        Seen::Ours(damaged),
        Seen::Ours(deleting),
        Seen::Ours(suspended),
        Seen::Missing,
        Seen::Foreign(foreign),
        Seen::Unknown(read_error()),
    ];
    let mut all = Vec::new();
    for database in databases() {
        for keys in &keys {
            for entry in &entries {
                for bits in 0..32u8 {
                    let bit = |n: u8| bits & (1 << n) != 0;
                    let mut world = untouched();
                    (world.database, world.keys, world.entry) = (database.clone(), keys.clone(), entry.clone());
                    world.finalizer = bit(0);
                    world.rival = bit(1).then(object);
                    if bit(2) {
                        world.recorded = whole.recorded.clone();
                    }
                    if bit(3) {
                        world.replicas.all.clear();
                    }
                    if bit(4) {
                        world.agents.clear();
                    }
                    all.push(world);
                }
            }
        }
    }
    all
}

fn has(plan: &Plan<TenantStep>, kinds: &[&str]) -> bool {
    plan.steps.iter().any(|s| kinds.contains(&word(s)))
}

const DESTRUCTIVE: [&str; 5] = ["RevokeAccess", "CloseDatabase", "DeleteEntry", "DeleteKeys", "RemoveFinalizer"];
const DATABASE: [&str; 9] = [
    "CreateCell",
    "Provision",
    "Adopt",
    "PreventAdoption",
    "RepairDatabase",
    "SuspendAccess",
    "ResumeAccess",
    "RevokeAccess",
    "CloseDatabase",
];

fn check_both(world: &ObservedTenant, plan: &Plan<TenantStep>) {
    let refuse = |holds: bool, what: &str| assert!(!holds, "{what}: {:?}\n{world:#?}", plan.steps);
    let unknown_entry = matches!(world.entry, Seen::Unknown(_));
    let unknown_keys = matches!(world.keys, Seen::Unknown(_));
    if !matches!(world.database, DatabaseView::Facts(_)) {
        refuse(has(plan, &DATABASE), "a database that was not read, or is another, is changed");
    }
    if matches!(world.entry, Seen::Foreign(_)) || unknown_entry {
        refuse(has(plan, &["PutEntry", "DeleteEntry"]), "an entry that is not ours, or was not read, is changed");
    }
    if matches!(world.keys, Seen::Foreign(_)) || unknown_keys {
        refuse(has(plan, &["CreateKeys", "DeleteKeys"]), "a Secret that is not ours, or was not read, is changed");
    }
    if unknown_entry {
        refuse(
            has(plan, &["CreateKeys", "Provision", "Adopt", "RemoveFinalizer"]),
            "something hangs on an entry that was not read",
        );
    }
    if unknown_keys {
        refuse(has(plan, &["RemoveFinalizer"]), "the finalizer goes before the keys were read");
    }
    for step in &plan.steps {
        let shown = format!("{step:?}");
        assert!(!shown.contains("CANARY") && !shown.contains("Q0FOQV") && !shown.contains("67, 65, 78"), "{shown}");
    }
}

#[test]
fn no_view_of_the_world_leads_a_living_tenant_into_harm() {
    let worlds = worlds();
    for (world, adopt) in worlds.iter().flat_map(|w| [(w, None), (w, Some("uid-other")), (w, Some("uid-unknown"))]) {
        let plan = present_adopting(world, adopt);
        check_both(world, &plan);
        let refuse = |holds: bool, what: &str| assert!(!holds, "{what}: {:?}\n{world:#?}", plan.steps);
        refuse(has(&plan, &DESTRUCTIVE), "a living tenant loses something");
        let effects = plan.steps.iter().any(|s| *s != TenantStep::Object(ObjectStep::AddFinalizer));
        refuse(
            effects && !world.finalizer && plan.steps[0] != TenantStep::Object(ObjectStep::AddFinalizer),
            "no finalizer first",
        );
        let made = has(&plan, &["Provision"]);
        let taken = plan
            .steps
            .iter()
            .find_map(|s| if let TenantStep::Database(DatabaseStep::Adopt(a)) = s { Some(&a.previous) } else { None });
        refuse(world.recorded.incarnation.is_some() && (made || taken.is_some()), "lost data is papered over");
        refuse(adopt.is_some() && made, "it begins with nothing, though it is to take data over");
        refuse(taken.is_some_and(|from| Some(from.0.as_str()) != adopt), "other data than asked for is taken");
        if let (DatabaseView::Facts(facts), true) = (&world.database, taken.is_some()) {
            let used = |r: &LedgerRow| r.state.in_use() || r.state == RowState::Deleting;
            refuse(facts.row.as_ref().is_some_and(used), "data in use is taken");
        }
        assert_eq!(plan.reports.len(), 5, "each part is judged once");
        // The status of such a reconcile says something of every part, of this generation.
        let status = project(Some(world), &plan, &all_done(&plan), &TenantStatus::default(), false);
        assert!(status.conditions.len() >= 6 && status.conditions.iter().all(|c| c.observed_generation == Some(1)));
        assert!(!format!("{status:?}").contains("CANARY"));
    }
    println!("{} views of the world", worlds.len());
}

/// A tenant that is to be out of service loses only its access, and only after the replicas have acknowledged it.
#[test]
fn no_view_of_the_world_takes_more_from_a_suspended_tenant_than_its_access() {
    for world in &worlds() {
        let plan = out_of_service(world);
        check_both(world, &plan);
        let refuse = |holds: bool, what: &str| assert!(!holds, "{what}: {:?}\n{world:#?}", plan.steps);
        refuse(has(&plan, &DESTRUCTIVE), "a living tenant loses something");
        refuse(has(&plan, &["ResumeAccess"]), "access is given");
        let acknowledged =
            matches!(&world.entry, Seen::Ours(EntryView { entry: Some(e), .. }) if e.state == TenantState::Suspended);
        refuse(has(&plan, &["SuspendAccess"]) && !acknowledged, "access is taken from under the replicas");
        for step in &plan.steps {
            let active = matches!(step, TenantStep::Entry(EntryStep::Put { entry, .. }) if entry.state != TenantState::Suspended);
            refuse(active, "the entry lets the replicas serve it");
        }
        assert_eq!(plan.reports.len(), 6, "each part is judged once");
    }
}

/// An object that was taken for gone and lives, or can't be asked for: nothing at all is done, whatever else is seen.
#[test]
fn no_view_of_the_world_takes_anything_from_what_may_live() {
    for mut world in worlds() {
        for object in [Presence::Alive, Presence::Unknown(read_error())] {
            world.object = object;
            let plan = absent(&world, DeletionPolicy::Delete);
            assert_eq!(plan.steps, [], "{world:#?}");
            let retried = plan.reports.iter().any(|v| matches!(v.state, PartState::Unread(_)));
            assert_eq!(retried, world.object != Presence::Alive);
        }
    }
}

#[test]
fn no_view_of_the_world_makes_a_deletion_take_too_much() {
    for world in &worlds() {
        for policy in [DeletionPolicy::Retain, DeletionPolicy::Archive, DeletionPolicy::Delete] {
            let plan = absent(world, policy);
            check_both(world, &plan);
            let refuse = |holds: bool, what: &str| assert!(!holds, "{what}: {:?}\n{world:#?}", plan.steps);
            refuse(
                has(&plan, &["AddFinalizer", "Provision", "Adopt", "CreateKeys", "CreateCell"]),
                "something is made",
            );
            let closes = |wanted: DeletionPolicy| {
                plan.steps
                    .iter()
                    .any(|s| matches!(s, TenantStep::Database(DatabaseStep::Close(c)) if c.policy == wanted))
            };
            for forbidden in [DeletionPolicy::Delete, DeletionPolicy::Archive] {
                refuse(
                    closes(forbidden) && (policy != forbidden || !world.finalizer),
                    "kept data is dropped or put aside",
                );
            }
            if let DatabaseView::Facts(facts) = &world.database {
                let other = facts.row.as_ref().is_some_and(|r| r.uid != object().uid);
                let dropped = facts.row.as_ref().filter(|r| r.state == RowState::Dropped).map(|r| r.incarnation);
                let buries = |s: &TenantStep| match s {
                    TenantStep::Database(DatabaseStep::Close(c)) => {
                        c.row.is_none() && c.replaces.is_some() && c.replaces == dropped
                    }
                    _ => false,
                };
                let touched = plan
                    .steps
                    .iter()
                    .any(|s| DATABASE.contains(&word(s)) && word(s) != "PreventAdoption" && !buries(s));
                refuse(other && touched, "another's data is touched");
                let active = facts.row.as_ref().is_some_and(|r| r.uid == object().uid && r.state == RowState::Active);
                let there = facts.schema_mark.is_some();
                refuse(active && there && has(&plan, &["RemoveFinalizer"]), "the finalizer goes before the data");
            } else {
                refuse(
                    has(&plan, &["DeleteEntry", "DeleteKeys", "RemoveFinalizer"]),
                    "the end comes without the database",
                );
            }
            let last = plan.steps.iter().rev().find(|s| !matches!(s, TenantStep::Object(ObjectStep::RecordEvent(_))));
            refuse(
                has(&plan, &["RemoveFinalizer"]) && last != Some(&TenantStep::Object(ObjectStep::RemoveFinalizer)),
                "not the last step",
            );
        }
    }
}
