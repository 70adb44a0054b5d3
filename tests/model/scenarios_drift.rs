//! Scenarios of drift and loss for the crash matrix.

use super::{
    drift::ManualEdit,
    operator::Operator,
    run::settle,
    scenarios::{alpha, created, id},
    user::tenant_spec,
};
use agent_tenancy::api::{DeletionPolicy::Delete, Reason};

fn events(op: &Operator, reason: Reason) -> usize {
    op.state().events.iter().filter(|(_, notice)| notice.reason == reason).count()
}

fn ready(op: &Operator) -> (String, String) {
    let state = op.state();
    let status = state.tenants[&alpha()].status.clone().unwrap();
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    (ready.status.clone(), ready.reason.clone())
}

/// Each change is undone by the next reconcile; what only a superuser can undo is reported until they have undone it.
pub fn edited(op: &mut Operator) {
    created(op, Delete);
    for edit in ManualEdit::ALL {
        op.state().edit_by_hand("at_alpha", edit);
        settle(op);
        let beyond = edit == ManualEdit::Superuser;
        assert_eq!(op.state().database.edited["at_alpha"].is_empty(), !beyond, "{edit:?}");
    }
    assert_eq!(ready(op), ("False".to_owned(), "DriftNotRepairable".to_owned()));
    // The rest of the tenant is maintained meanwhile.
    let mut spec = tenant_spec(&["x"], Delete);
    spec.auth.audience = "other".to_owned();
    op.state().apply_tenant(&alpha(), spec);
    settle(op);
    assert_eq!(op.state().tenant_entry(&id("alpha")).unwrap().auth.audience, "other");
    op.state().take_superuser_away();
    settle(op);
    assert!(events(op, Reason::DriftRepaired) > 0);
}

/// A loss waits for its annotation, which has to name this loss and does not cover later ones.
pub fn given_up(op: &mut Operator) {
    created(op, Delete);
    for what in 0..3 {
        let before = op.state().database.rows[&id("alpha")].incarnation;
        op.state().lose(&id("alpha"), what);
        settle(op);
        assert_eq!(
            ready(op),
            ("False".to_owned(), "DataLost".to_owned()),
            "{what}: also with the word for the last loss"
        );
        op.state().accept_loss(&alpha());
        settle(op);
        assert_eq!(ready(op), ("True".to_owned(), "Ready".to_owned()));
        let state = op.state();
        assert_ne!(state.database.rows[&id("alpha")].incarnation, before);
        let kept = state.database.schemas.keys().filter(|name| name.contains("_lost_")).count();
        assert_eq!(kept, usize::from(what), "a schema that is there is kept");
    }
}

/// Lost and given up, and deleted before anything came of it.
pub fn given_up_and_deleted(op: &mut Operator) {
    created(op, Delete);
    op.state().lose(&id("alpha"), 0);
    settle(op);
    op.state().accept_loss(&alpha());
    op.state().delete_tenant(&alpha());
    settle(op);
}
