//! Scenarios of signing keys.

use super::{
    operator::Operator,
    run::settle,
    scenarios::{alpha, created, id},
    state::State,
    user::tenant_spec,
};
use agent_tenancy::{
    api::{ConditionType, DeletionPolicy::Delete, SigningAlgorithm},
    status::find,
};

pub fn rotations(op: &mut Operator) {
    created(op, Delete);
    op.state().ask_rotation(&alpha());
    settle(op);
    let mut spec = tenant_spec(&["x"], Delete);
    spec.auth.algorithm = SigningAlgorithm::EdDSA;
    op.state().apply_tenant(&alpha(), spec.clone());
    settle(op);
    op.state().hand_delete_keys(&alpha());
    settle(op);
    spec.auth.algorithm = SigningAlgorithm::ES256;
    spec.auth.max_token_seconds = 7200;
    op.state().apply_tenant(&alpha(), spec);
    op.state().ask_rotation(&alpha());
    settle(op);
}

pub fn revocations(op: &mut Operator) {
    created(op, Delete);
    op.state().ask_revocation(&alpha());
    settle(op);
    op.state().replicas[0].stuck = true;
    op.state().ask_revocation(&alpha());
    settle(op);
    op.state().replicas[0].stuck = false;
    settle(op);
    op.state().replicas.clear();
    op.state().ask_revocation(&alpha());
    settle(op);
    op.state().join();
}

/// A replica that does not answer holds a rotation, for as long as it takes.
pub fn held_rotation(op: &mut Operator) {
    created(op, Delete);
    let before = op.state().kids.clone();
    op.state().replicas[0].stuck = true;
    op.state().ask_rotation(&alpha());
    settle(op);
    if op.faults.lock().unwrap().at.is_none() {
        let state = op.state();
        assert_eq!(state.kids, before, "no key signs that a replica does not know");
        let status = state.tenants[&alpha()].status.clone().unwrap();
        let keys = find(&status.conditions, ConditionType::SigningKeysReady).unwrap();
        assert_eq!((keys.status.as_str(), keys.reason.as_str()), ("True", "RotationWaiting"), "{keys:?}");
        assert_eq!(find(&status.conditions, ConditionType::Ready).unwrap().status, "True");
    }
    op.state().replicas[0].stuck = false;
    settle(op);
    assert_ne!(op.state().kids, before);
}

pub fn keys_by_hand(op: &mut Operator) {
    created(op, Delete);
    op.state().copy_keys(&alpha());
    let edits: [fn(&mut State); 5] = [
        |s| s.hand_edit_keys(&alpha()),
        |s| s.hand_damage_keys(&alpha()),
        |s| s.ask_rotation(&alpha()),
        |s| s.put_keys_back(&alpha()),
        |s| {
            s.hand_delete_keys(&alpha());
            s.hand_delete_entry(&id("alpha"));
        },
    ];
    for edit in edits {
        edit(&mut op.state());
        settle(op);
    }
}
