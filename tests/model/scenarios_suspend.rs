//! Tenants that are taken out of service and brought back, and objects that must not be touched.

use super::{
    operator::Operator,
    run::settle,
    scenarios::{Scenario, alpha, created, id},
    state::State,
    user::{agent_spec, key, tenant_spec},
};
use agent_tenancy::{
    api::{
        DeletionPolicy::{self, Delete, Retain},
        names,
    },
    domain::entry::TenantState,
    plan::observed::RowState,
};

fn apply(op: &mut Operator, suspend: bool, policy: DeletionPolicy) {
    let mut spec = tenant_spec(&["x", "y"], policy);
    spec.suspend = suspend;
    op.state().apply_tenant(&alpha(), spec);
    settle(op);
}

fn there_and_back(op: &mut Operator) {
    created(op, Delete);
    let before = op.state().database.rows[&id("alpha")].incarnation;
    apply(op, true, Delete);
    assert!(op.state().database.members.is_empty());
    apply(op, false, Delete);
    let state = op.state();
    let row = &state.database.rows[&id("alpha")];
    assert_eq!((row.incarnation, row.state), (before, RowState::Active), "the same data");
}

/// While a replica is silent, transactions are open, the database is away, an AgentConfig is missing.
fn against_odds(op: &mut Operator) {
    type Edit = fn(&mut State);
    let odds: [(Edit, Edit); 4] = [
        (|s| s.replicas[0].stuck = true, |s| s.replicas[0].stuck = false),
        (
            |s| {
                s.database.open.insert("at_alpha".to_owned(), 2);
            },
            |s| s.database.open.clear(),
        ),
        (|s| s.database.up = false, |s| s.database.up = true),
        (|s| s.vanish_agent(&key("a", "x")), |s| s.apply_agent(&key("a", "x"), agent_spec("m1", false))),
    ];
    for (worse, better) in odds {
        created(op, Delete);
        worse(&mut op.state());
        apply(op, true, Delete);
        assert_eq!(op.state().tenant_entry(&id("alpha")).unwrap().state, TenantState::Suspended);
        better(&mut op.state());
        settle(op);
        apply(op, false, Delete);
    }
}

/// A tenant that is out of service is maintained like the others.
fn edited_meanwhile(op: &mut Operator) {
    created(op, Delete);
    apply(op, true, Delete);
    let edits: [fn(&mut State); 6] = [
        |s| s.hand_delete_entry(&id("alpha")),
        |s| s.hand_edit_entry(&id("alpha")),
        |s| s.hand_damage_entry(&id("alpha")),
        |s| s.hand_delete_keys(&alpha()),
        |s| {
            s.database.members.insert("at_alpha".to_owned());
        },
        |s| s.database.grants.clear(),
    ];
    for edit in edits {
        edit(&mut op.state());
        settle(op);
    }
    let mut spec = tenant_spec(&["y"], Delete);
    spec.suspend = true;
    spec.auth.audience = "other".to_owned();
    op.state().apply_tenant(&alpha(), spec);
    settle(op);
}

fn paused(op: &mut Operator) {
    created(op, Delete);
    op.state().annotate(&alpha(), names::PAUSED_ANNOTATION, "true".to_owned());
    settle(op);
    let before = op.state().clone();
    let mut spec = tenant_spec(&["y"], Retain);
    spec.suspend = true;
    op.state().apply_tenant(&alpha(), spec);
    op.state().delete_tenant(&alpha());
    settle(op);
    {
        let now = op.state();
        assert_eq!(now.database.rows, before.database.rows);
        assert_eq!(now.tenant_entry(&id("alpha")), before.tenant_entry(&id("alpha")));
        assert!(now.tenants.contains_key(&alpha()), "its deletion waits");
    }
    op.state().annotate(&alpha(), names::PAUSED_ANNOTATION, "false".to_owned());
    settle(op);
    assert!(op.state().tenants.is_empty());
}

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("suspended and resumed", there_and_back),
        Scenario::new("suspended against odds", against_odds),
        Scenario::new("suspended from the start", |op| {
            apply(op, true, Delete);
            apply(op, false, Delete);
        }),
        Scenario::new("edited while suspended", edited_meanwhile),
        Scenario::new("deleted while suspended", |op| {
            created(op, Delete);
            apply(op, true, Delete);
            op.state().delete_tenant(&alpha());
            settle(op);
            created(op, Retain);
            apply(op, true, Retain);
            op.state().delete_tenant(&alpha());
            settle(op);
        }),
        Scenario::new("paused", paused),
    ]
}
