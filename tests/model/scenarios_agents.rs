//! AgentConfigs that come, change, go, and are used meanwhile.

use super::{
    operator::Operator,
    run::settle,
    scenarios::{Scenario, alpha, created},
    user::{agent_spec, key, tenant_spec},
};
use agent_tenancy::api::DeletionPolicy::Delete;

fn agents_in_use(op: &mut Operator) {
    created(op, Delete);
    op.state().delete_agent(&key("a", "y"));
    settle(op);
    assert!(op.state().agents.contains_key(&key("a", "y")), "it is in use");
    op.state().apply_tenant(&key("a", "late"), tenant_spec(&["y"], Delete));
    settle(op);
    op.state().apply_tenant(&alpha(), tenant_spec(&["x"], Delete));
    settle(op);
    assert!(!op.state().agents.contains_key(&key("a", "y")), "it is not used any more");
    op.state().apply_agent(&key("a", "y"), agent_spec("m9", true));
    settle(op);
}

/// Deleted, with its credential, while a replica does not answer; the deletion goes on after the timeout.
fn agents_that_stay_referenced(op: &mut Operator) {
    created(op, Delete);
    op.state().replicas[0].stuck = true;
    op.state().delete_agent(&key("a", "x"));
    op.state().delete_agent(&key("a", "y"));
    op.state().advance(500);
    settle(op);
    assert_eq!(op.state().agents.len(), 2, "both are in use");
    op.state().apply_agent(&key("a", "z"), agent_spec("m1", false));
    settle(op);
    op.state().apply_tenant(&alpha(), tenant_spec(&["z"], Delete));
    settle(op);
    let state = op.state();
    assert_eq!(state.agents.len(), 1, "the deletion does not wait for the silent replica");
    assert!(!state.registry.keys().any(|name| name.starts_with("upstream-")));
    drop(state);
    op.state().replicas[0].stuck = false;
}

fn agent_life(op: &mut Operator) {
    created(op, Delete);
    for model in ["m2", "m1", "m3"] {
        op.state().apply_agent(&key("a", "y"), agent_spec(model, true));
        settle(op);
    }
    op.state().set_credential("a", Some(2));
    settle(op);
    op.state().set_credential("a", None);
    settle(op);
    op.state().set_credential("a", Some(2));
    op.state().apply_agent(&key("a", "y"), agent_spec("m3", false));
    settle(op);
}

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("an AgentConfig goes while it is used", agents_in_use),
        Scenario::new("an AgentConfig goes, and a replica is silent", agents_that_stay_referenced),
        Scenario::new("an AgentConfig changes", agent_life),
        Scenario::new("an AgentConfig comes later", |op| {
            op.state().apply_tenant(&alpha(), tenant_spec(&["later"], Delete));
            settle(op);
            op.state().apply_agent(&key("a", "later"), agent_spec("m1", true));
            settle(op);
        }),
        Scenario::new("an AgentConfig changes often", |op| {
            for n in 0..11 {
                op.state().apply_agent(&key("a", "x"), agent_spec(&format!("n{n}"), false));
                settle(op);
            }
            assert_eq!(op.state().revisions.len(), 11, "ten of x, one of y");
        }),
        Scenario::new("an AgentConfig vanished while it is used", |op| {
            created(op, Delete);
            op.state().vanish_agent(&key("a", "y"));
            settle(op);
            assert!(op.state().registry.keys().filter(|n| n.starts_with("agent-")).count() == 2, "it is in use");
            op.state().apply_tenant(&alpha(), tenant_spec(&["x"], Delete));
            settle(op);
            let state = op.state();
            let left: Vec<_> =
                state.registry.keys().filter(|n| n.starts_with("agent-") || n.starts_with("up")).collect();
            assert_eq!(left.len(), 1, "{left:?}");
        }),
    ]
}
