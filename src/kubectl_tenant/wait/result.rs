//! What `wait` makes of one state of a Tenant: reached, not yet, or never without somebody's help.

use crate::{
    api::{ConditionType, Tenant},
    kubectl_tenant::report::document::find,
};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// The Tenant is Ready for its present spec
    Ready,
    /// The Tenant is gone
    Deleted,
}

/// How a state stands to the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// It is reached; the word says what is.
    Reached(&'static str),
    /// Not yet.
    InProgress,
    /// Waiting longer is of no use; the sentence says why.
    Failed(String),
}

/// Judges a state. `uid` is the life of the Tenant that was there when the waiting began; `None`: it is gone.
pub(crate) fn resolve_wait(goal: Goal, uid: &str, tenant: Option<&Tenant>) -> WaitResult {
    match (goal, tenant) {
        (Goal::Deleted, None) => WaitResult::Reached("deleted"),
        // Another Tenant of that name: the one that was meant is gone.
        (Goal::Deleted, Some(now)) if now.metadata.uid.as_deref() != Some(uid) => WaitResult::Reached("deleted"),
        (Goal::Deleted, Some(_)) => WaitResult::InProgress,
        (Goal::Ready, None) => WaitResult::Failed("it was deleted meanwhile".to_owned()),
        (Goal::Ready, Some(now)) if now.metadata.deletion_timestamp.is_some() => {
            WaitResult::Failed("it is being deleted".to_owned())
        }
        (Goal::Ready, Some(now)) => resolve_ready(now),
    }
}

/// A condition counts only if it speaks of the present spec (as `kubectl wait` has it).
fn resolve_ready(tenant: &Tenant) -> WaitResult {
    let generation = tenant.metadata.generation.unwrap_or_default();
    let conditions = tenant.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let holds = |type_| {
        let current = |c: &&crate::api::Condition| c.observed_generation.unwrap_or_default() >= generation;
        find(conditions, type_).filter(current).filter(|c| c.status == "True")
    };
    if holds(ConditionType::Ready).is_some() {
        return WaitResult::Reached("ready");
    }
    if let Some(paused) = holds(ConditionType::Paused) {
        return WaitResult::Failed(format!("it is paused: {}", paused.message));
    }
    match holds(ConditionType::Stalled) {
        Some(stalled) => {
            WaitResult::Failed(format!("nothing happens until somebody acts: {}: {}", stalled.reason, stalled.message))
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
    fn ready_means_ready_for_the_present_spec() {
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
        assert_eq!(judge(Goal::Ready, &tenant), WaitResult::InProgress, "the spec was changed since");
    }

    #[test]
    fn a_paused_tenant_is_not_waited_for() {
        let mut tenant = waiting_tenant();
        let conditions = &mut tenant.status.as_mut().unwrap().conditions;
        let mut paused = conditions[0].clone();
        (paused.type_, paused.status, paused.reason) = ("Paused".into(), "True".into(), "Paused".into());
        paused.message = "nobody touches it".into();
        conditions.push(paused);
        assert_eq!(judge(Goal::Ready, &tenant), WaitResult::Failed("it is paused: nobody touches it".to_owned()));
    }

    #[test]
    fn gone_is_gone_also_when_the_name_lives_on() {
        assert_eq!(resolve_wait(Goal::Deleted, "u-1", None), WaitResult::Reached("deleted"));
        assert_eq!(judge(Goal::Deleted, &ready_tenant()), WaitResult::InProgress);
        assert_eq!(resolve_wait(Goal::Deleted, "u-0", Some(&ready_tenant())), WaitResult::Reached("deleted"));
        assert!(matches!(resolve_wait(Goal::Ready, "u-1", None), WaitResult::Failed(_)));
    }
}
