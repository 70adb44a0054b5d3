//! Passes until the world rests, and the proof that it does.

use super::{
    operator::Operator,
    state::{Key, State},
};
use agent_tenancy::{
    api::{AgentConfig, DeletionPolicy, Tenant},
    controller::pass::Outcome,
    domain::entry::Entry,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;

/// Tenants and AgentConfigs.
pub fn keys(state: &State) -> (Vec<Key>, Vec<Key>) {
    (state.tenants.keys().cloned().collect(), state.agents.keys().cloned().collect())
}

/// One pass of every object; what came of each.
pub fn round(operator: &Operator) -> Vec<Outcome> {
    let (tenants, agents) = keys(&operator.state());
    let mut outcomes: Vec<Outcome> = agents.iter().map(|key| operator.pass_agent(key)).collect();
    outcomes.extend(tenants.iter().map(|key| operator.pass_tenant(key)));
    let orphans = orphans(&operator.state());
    outcomes.extend(orphans.iter().map(|tenant| operator.run_tenant(tenant)));
    let orphans = orphan_agents(&operator.state());
    outcomes.extend(orphans.iter().map(|agent| operator.run_agent(agent)));
    collect_garbage(&mut operator.state());
    outcomes
}

/// Entries without a live Tenant (somebody took the finalizer off): each as the Tenant that it had, being deleted.
fn orphans(state: &State) -> Vec<Tenant> {
    let entries = state.registry.values().filter_map(|secret| match &secret.entry {
        Some(Entry::Tenant(entry)) if state.live_tenant(&entry.uid).is_none() => Some(entry),
        _ => None,
    });
    entries
        .map(|entry| {
            let mut spec = super::user::tenant_spec(&[], DeletionPolicy::Delete);
            spec.tenant_id = Some(entry.tenant_id.to_string());
            let mut tenant = Tenant::new(&entry.name, spec);
            tenant.metadata.namespace = Some(entry.namespace.clone());
            tenant.metadata.uid = Some(entry.uid.0.clone());
            tenant.metadata.deletion_timestamp = Some(Time(state.now));
            tenant
        })
        .collect()
}

/// The same for AgentConfigs (an operator with an old view wrote an entry after the end).
fn orphan_agents(state: &State) -> Vec<AgentConfig> {
    let entries = state.registry.values().filter_map(|secret| match &secret.entry {
        Some(Entry::Agent(entry)) if state.live_agent(&entry.uid).is_none() => Some(entry),
        _ => None,
    });
    entries
        .map(|entry| {
            let mut agent = AgentConfig::new(&entry.name, super::user::agent_spec("gone", false));
            agent.metadata.namespace = Some(entry.namespace.clone());
            agent.metadata.uid = Some(entry.uid.0.clone());
            agent.metadata.deletion_timestamp = Some(Time(state.now));
            agent
        })
        .collect()
}

/// What the cluster's garbage collector does: dependents go with their owner.
fn collect_garbage(state: &mut State) {
    let live: BTreeSet<String> = state.agents.values().filter_map(|a| a.metadata.uid.clone()).collect();
    state.revisions.retain(|(owner, _), _| live.contains(&owner.0));
}

/// Runs passes, lets replicas acknowledge, and lets time pass where a plan waits for it, until nothing happens any more.
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
        match alarm {
            Some(at) => state.now = at,
            None => return,
        }
    }
    let state = operator.state();
    let last: Vec<_> = state.events.iter().rev().take(4).collect();
    panic!("the world does not come to rest; last events: {last:?}");
}

/// Nothing is written any more: not by further rounds, not by a new leader, not by time that passes.
pub fn assert_rest(operator: &mut Operator) {
    let writes = operator.state().writes;
    for minutes in 0..2 {
        operator.state().advance(minutes * 300);
        round(operator);
    }
    operator.restart();
    round(operator);
    let state = operator.state();
    assert_eq!(state.writes, writes, "a converged fleet was written to; last events: {:?}", state.events.last());
    assert!(state.violations.is_empty(), "{:#?}", state.violations);
}
