//! Reconciles until the world converges, and the proof that it does.

use super::{
    operator::Operator,
    state::{CLUSTER, Key, State},
};
use agent_tenancy::{
    api::{AgentConfig, Tenant},
    controller::reconcile::{
        orphans::{resolve_vanished_agent, resolve_vanished_tenant},
        outcome::ReconcileOutcome,
        reconciled::Form,
    },
    domain::{
        entry::Entry,
        ident::{ObjectId, TenantId},
    },
    plan::observed::RowState,
};
use std::collections::{BTreeMap, BTreeSet};

/// Tenants and AgentConfigs.
pub fn keys(state: &State) -> (Vec<Key>, Vec<Key>) {
    (state.tenants.keys().cloned().collect(), state.agents.keys().cloned().collect())
}

/// One reconcile of every object; what came of each.
pub fn round(operator: &Operator) -> Vec<ReconcileOutcome> {
    let (tenants, agents) = keys(&operator.state());
    let mut outcomes: Vec<ReconcileOutcome> = agents.iter().map(|key| operator.pass_agent(key)).collect();
    outcomes.extend(tenants.iter().map(|key| operator.pass_tenant(key)));
    let vanished = vanished_tenants(&operator.state());
    outcomes.extend(vanished.iter().map(|tenant| operator.run_tenant(tenant, Form::Vanished)));
    let vanished = vanished_agents(&operator.state());
    outcomes.extend(vanished.iter().map(|agent| operator.run_agent(agent, Form::Vanished)));
    super::archives::sweep(operator);
    collect_garbage(&mut operator.state());
    outcomes
}

/// What entries and rows name of Tenants that are gone (their finalizer was removed by hand, or an older state
/// of the cluster came back).
fn vanished_tenants(state: &State) -> Vec<Tenant> {
    let entries = state.registry.values().filter_map(|secret| match &secret.entry {
        Some(Entry::Tenant(entry)) => Some((entry.tenant_id.clone(), entry.object())),
        _ => None,
    });
    let rows = state.database.rows.iter().filter(|(_, r)| r.state.in_use() || r.state == RowState::Deleting);
    let rows = rows.filter(|(_, r)| r.cluster_id == CLUSTER);
    let rows = rows.map(|(id, r)| {
        (id.clone(), ObjectId { namespace: r.namespace.clone(), name: r.name.clone(), uid: r.uid.clone() })
    });
    let named: BTreeMap<TenantId, ObjectId> = entries.chain(rows).collect();
    let gone = named.iter().filter(|(_, object)| state.live_tenant(&object.uid).is_none());
    gone.map(|(id, object)| resolve_vanished_tenant(object, id, state.now)).collect()
}

/// The same for AgentConfigs (also: an operator with an old view wrote an entry after the end).
fn vanished_agents(state: &State) -> Vec<AgentConfig> {
    let entries = state.registry.values().filter_map(|secret| match &secret.entry {
        Some(Entry::Agent(entry)) if state.live_agent(&entry.uid).is_none() => Some(entry.object()),
        _ => None,
    });
    entries.map(|object| resolve_vanished_agent(&object, state.now)).collect()
}

/// What the cluster's garbage collector does: dependents go with their owner.
fn collect_garbage(state: &mut State) {
    let live: BTreeSet<String> = state.agents.values().filter_map(|a| a.metadata.uid.clone()).collect();
    state.revisions.retain(|(owner, _), _| live.contains(&owner.0));
}

/// Runs reconciles, lets replicas acknowledge, and advances the clock where a plan waits, until nothing happens any more.
/// An operator that ended is started again.
pub fn settle(operator: &mut Operator) {
    let mut failures = 0;
    for _ in 0..300 {
        let writes = operator.state().writes;
        let outcomes = round(operator);
        if operator.has_ended() {
            operator.restart();
            continue;
        }
        let mut state = operator.state();
        if state.writes > writes || state.acknowledge() {
            failures = 0;
            continue;
        }
        // A failed effect is tried again; one that keeps failing is how the world is.
        if failures < 2 && outcomes.iter().any(|o| o.error.is_some()) {
            failures += 1;
            continue;
        }
        let now = state.now;
        let alarm = outcomes.iter().filter_map(|o| o.wake_at).filter(|at| *at > now).min();
        let alarm = alarm.or_else(|| super::archives::soon_due(&state));
        match alarm {
            Some(at) => state.now = at,
            None => return,
        }
    }
    let state = operator.state();
    let last: Vec<_> = state.events.iter().rev().take(4).collect();
    panic!("the world does not come to rest; last events: {last:?}");
}

/// Nothing is written any more: not by further rounds, not by a new leader, not because time goes on.
pub fn assert_rest(operator: &mut Operator) {
    let writes = operator.state().writes;
    for minutes in 0..2 {
        operator.state().advance(minutes * 300);
        round(operator);
    }
    operator.restart();
    round(operator);
    let state = operator.state();
    assert_eq!(state.writes, writes, "a converged installation was written to; last events: {:?}", state.events.last());
    assert!(state.violations.is_empty(), "{:#?}", state.violations);
}
