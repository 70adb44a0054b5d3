//! Whether one state of a Tenant is the goal of a wait: reached, in progress, or failed.

use crate::{
    api::{ConditionType, Tenant},
    kubectl_tenant::report::document::find,
};

/// The state to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// The Tenant is Ready for its current spec
    Ready,
    /// The Tenant is deleted
    Deleted,
}

/// How one state of a Tenant relates to the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// The goal is reached; the word names it.
    Reached(&'static str),
    InProgress,
    /// The goal is not reached without manual intervention; the sentence says why.
    Failed(String),
}

/// Judges one state. `uid` is the UID of the Tenant when the wait began; without a `tenant` it does not exist.
pub(crate) fn resolve_wait(goal: Goal, uid: &str, tenant: Option<&Tenant>) -> WaitResult {
    match (goal, tenant) {
        (Goal::Deleted, None) => WaitResult::Reached("deleted"),
        // Another Tenant of that name: the one that was waited for is deleted.
        (Goal::Deleted, Some(now)) if now.metadata.uid.as_deref() != Some(uid) => WaitResult::Reached("deleted"),
        (Goal::Deleted, Some(_)) => WaitResult::InProgress,
        (Goal::Ready, None) => WaitResult::Failed("it was deleted".to_owned()),
        (Goal::Ready, Some(now)) if now.metadata.deletion_timestamp.is_some() => {
            WaitResult::Failed("it is being deleted".to_owned())
        }
        (Goal::Ready, Some(now)) => resolve_ready(now),
    }
}

/// A condition counts only if it was observed for the current spec (as in `kubectl wait`).
fn resolve_ready(tenant: &Tenant) -> WaitResult {
    let generation = tenant.metadata.generation.unwrap_or_default();
    let conditions = tenant.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let find_true = |type_| {
        let current = |c: &&crate::api::Condition| c.observed_generation.unwrap_or_default() >= generation;
        find(conditions, type_).filter(current).filter(|c| c.status == "True")
    };
    if find_true(ConditionType::Ready).is_some() {
        return WaitResult::Reached("ready");
    }
    if let Some(paused) = find_true(ConditionType::Paused) {
        return WaitResult::Failed(format!("it is paused: {}", paused.message));
    }
    match find_true(ConditionType::Stalled) {
        Some(stalled) => {
            WaitResult::Failed(format!("manual intervention required: {}: {}", stalled.reason, stalled.message))
        }
        None => WaitResult::InProgress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl_tenant::samples::{ready_tenant, waiting_tenant};

    fn judge(goal: Goal, tenant: &Tenant) -> WaitResult {
        resolve_wait(goal, "u-1", Some(tenant))
    }

    #[test]
    fn ready_means_ready_for_the_current_spec() {
        assert_eq!(judge(Goal::Ready, &ready_tenant()), WaitResult::Reached("ready"));
        assert_eq!(judge(Goal::Ready, &waiting_tenant()), WaitResult::InProgress);
        let mut edited = ready_tenant();
        edited.metadata.generation = Some(3);
        assert_eq!(judge(Goal::Ready, &edited), WaitResult::InProgress);
    }

    #[test]
    fn a_stalled_tenant_is_not_waited_for() {
        let mut tenant = waiting_tenant();
        let conditions = &mut tenant.status.as_mut().unwrap().conditions;
        let mut stalled = conditions[0].clone();
        (stalled.type_, stalled.status) = ("Stalled".into(), "True".into());
        (stalled.reason, stalled.message) = ("Conflict".into(), "shop/other owns it".into());
        conditions.push(stalled);
        let WaitResult::Failed(why) = judge(Goal::Ready, &tenant) else { panic!("still waiting") };
        assert!(why.ends_with("Conflict: shop/other owns it"), "{why}");
        tenant.metadata.generation = Some(3);
        assert_eq!(judge(Goal::Ready, &tenant), WaitResult::InProgress, "the spec was changed");
    }

    #[test]
    fn a_paused_tenant_is_not_waited_for() {
        let mut tenant = waiting_tenant();
        let conditions = &mut tenant.status.as_mut().unwrap().conditions;
        let mut paused = conditions[0].clone();
        (paused.type_, paused.status, paused.reason) = ("Paused".into(), "True".into(), "Paused".into());
        paused.message = "it has the annotation paused".into();
        conditions.push(paused);
        assert_eq!(
            judge(Goal::Ready, &tenant),
            WaitResult::Failed("it is paused: it has the annotation paused".to_owned())
        );
    }

    #[test]
    fn a_tenant_is_deleted_even_if_another_has_its_name() {
        assert_eq!(resolve_wait(Goal::Deleted, "u-1", None), WaitResult::Reached("deleted"));
        assert_eq!(judge(Goal::Deleted, &ready_tenant()), WaitResult::InProgress);
        assert_eq!(resolve_wait(Goal::Deleted, "u-0", Some(&ready_tenant())), WaitResult::Reached("deleted"));
        assert!(matches!(resolve_wait(Goal::Ready, "u-1", None), WaitResult::Failed(_)));
    }
}
