//! Every scenario × something goes wrong at every effect, in every way: the end is the same, and rests.

use super::{
    operator::{Failpoint, Mode, Operator},
    oracle::{assert_converged, picture},
    run::{assert_rest, settle},
    scenarios::{Scenario, all, alpha, base},
    user::tenant_spec,
};
use agent_tenancy::{
    api::{DeletionPolicy, Reason},
    domain::ident::Uid,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Plays a scenario with something going wrong; the picture of its end, and how many effects it took.
fn play(scenario: &Scenario, at: Option<Failpoint>) -> (String, usize) {
    let mut operator = Operator::first((scenario.start)(), false);
    operator.faults.lock().unwrap().at = at;
    operator.state().grep = at.is_none();
    (scenario.play)(&mut operator);
    settle(&mut operator);
    let (count, fired) = {
        let faults = operator.faults.lock().unwrap();
        (faults.count, faults.fired)
    };
    assert_eq!(fired, at.is_some(), "the effect was not reached");
    assert_rest(&mut operator);
    assert_converged(&operator);
    let end = picture(&operator.state());
    (end, count)
}

/// Every scenario (or those with `MODEL_ONLY` in their name), every effect, every mode, on all processors. The number of
/// runs.
pub fn run_matrix() -> usize {
    let only = std::env::var("MODEL_ONLY").unwrap_or_default();
    let all: Vec<Scenario> = all().into_iter().filter(|scenario| scenario.name.contains(&only)).collect();
    let ends: Vec<(String, usize)> = all.iter().map(|scenario| play(scenario, None)).collect();
    let runs: Vec<(usize, usize, Mode)> = ends
        .iter()
        .enumerate()
        .flat_map(|(i, (_, effects))| (0..*effects).flat_map(move |n| Mode::ALL.map(|mode| (i, n, mode))))
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some((i, n, mode)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (scenario, end) = (&all[*i], &ends[*i].0);
            let what =
                match catch_unwind(AssertUnwindSafe(|| play(scenario, Some(Failpoint { effect: *n, mode: *mode })))) {
                    Ok((other, _)) if other == *end || !scenario.one_end => continue,
                    Ok((other, _)) => format!("another end\n{end}---\n{other}"),
                    Err(panic) => {
                        let text = panic.downcast_ref::<String>().cloned();
                        text.or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
                    }
                };
            wrong.lock().unwrap().push(format!("{} / {mode:?} at {n}: {what}", scenario.name));
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().unwrap();
    let first = wrong[..wrong.len().min(8)].join("\n\n");
    assert!(wrong.is_empty(), "{} of {} went wrong; the first:\n{first}", wrong.len(), runs.len());
    runs.len()
}

#[test]
fn a_new_tenant_costs_two_status_writes_one_event_and_three_writes_more() {
    let mut operator = Operator::first(base(), false);
    settle(&mut operator);
    operator.state().apply_tenant(&alpha(), tenant_spec(&["x"], DeletionPolicy::Delete));
    settle(&mut operator);
    let first = operator.state().tenants[&alpha()].metadata.uid.clone().unwrap();
    assert_eq!(operator.state().status_writes[&Uid(first)], 2);
    // The second tenant finds its cell made.
    let before = operator.state().writes;
    let key = super::user::key("a", "beta");
    operator.state().apply_tenant(&key, tenant_spec(&["x"], DeletionPolicy::Delete));
    settle(&mut operator);
    let state = operator.state();
    let uid = Uid(state.tenants[&key].metadata.uid.clone().unwrap());
    assert_eq!(state.status_writes[&uid], 2, "from apply to Ready");
    let events: Vec<_> = state.events.iter().filter(|(owner, _)| *owner == uid).map(|(_, n)| n.reason).collect();
    assert_eq!(events, [Reason::Ready]);
    // Finalizer, database, key Secret, entry, two status, one event.
    assert_eq!(state.writes - before, 7);
}

#[test]
fn a_replica_that_timed_out_is_named_once() {
    let mut operator = Operator::first(base(), false);
    let all = all();
    let slow = all.iter().find(|s| s.name.contains("don't end")).unwrap();
    (slow.play)(&mut operator);
    settle(&mut operator);
    let state = operator.state();
    let named = state.events.iter().filter(|(_, n)| n.reason == Reason::ReplicaTimedOut).count();
    assert_eq!(named, 2, "once for each of the two tenants");
}

#[test]
fn a_replica_that_does_not_acknowledge_is_named_for_each_deletion_of_an_agent() {
    let mut operator = Operator::first(base(), false);
    settle(&mut operator);
    let all = all();
    let slow = all.iter().find(|s| s.name.contains("a replica is silent")).unwrap();
    (slow.play)(&mut operator);
    let state = operator.state();
    let named = state.events.iter().filter(|(_, n)| n.reason == Reason::ReplicaTimedOut).count();
    assert_eq!(named, 3, "for the two entries and the credential");
}
