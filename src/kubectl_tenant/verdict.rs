//! What `wait` makes of one state of a Tenant: reached, not yet, or never without somebody's help.

use super::report::find;
use crate::api::{ConditionType, Tenant};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Goal {
    /// The Tenant is Ready for its present spec
    Ready,
    /// The Tenant is gone
    Deleted,
}

/// How a state stands to the goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is reached; the word says what is.
    Reached(&'static str),
    /// Not yet.
    Waiting,
    /// Waiting longer is of no use; the sentence says why.
    Hopeless(String),
}

/// Judges a state. `uid` is the life of the Tenant that was there when the waiting began; `None`: it is gone.
pub fn resolve_verdict(goal: Goal, uid: &str, tenant: Option<&Tenant>) -> Verdict {
    match (goal, tenant) {
        (Goal::Deleted, None) => Verdict::Reached("deleted"),
        // Another Tenant of that name: the one that was meant is gone.
        (Goal::Deleted, Some(now)) if now.metadata.uid.as_deref() != Some(uid) => Verdict::Reached("deleted"),
        (Goal::Deleted, Some(_)) => Verdict::Waiting,
        (Goal::Ready, None) => Verdict::Hopeless("it was deleted meanwhile".to_owned()),
        (Goal::Ready, Some(now)) if now.metadata.deletion_timestamp.is_some() => {
            Verdict::Hopeless("it is being deleted".to_owned())
        }
        (Goal::Ready, Some(now)) => resolve_ready(now),
    }
}

/// A condition counts only if it speaks of the present spec (as `kubectl wait` has it).
fn resolve_ready(tenant: &Tenant) -> Verdict {
    let generation = tenant.metadata.generation.unwrap_or_default();
    let conditions = tenant.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let holds = |type_| {
        let current = |c: &&crate::api::Condition| c.observed_generation.unwrap_or_default() >= generation;
        find(conditions, type_).filter(current).filter(|c| c.status == "True")
    };
    if holds(ConditionType::Ready).is_some() {
        return Verdict::Reached("ready");
    }
    if let Some(paused) = holds(ConditionType::Paused) {
        return Verdict::Hopeless(format!("it is paused: {}", paused.message));
    }
    match holds(ConditionType::Stalled) {
        Some(stalled) => {
            Verdict::Hopeless(format!("nothing happens until somebody acts: {}: {}", stalled.reason, stalled.message))
        }
        None => Verdict::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ready_tenant, waiting_tenant};
    use super::*;

    fn judge(goal: Goal, tenant: &Tenant) -> Verdict {
        resolve_verdict(goal, "u-1", Some(tenant))
    }

    #[test]
    fn ready_means_ready_for_the_present_spec() {
        assert_eq!(judge(Goal::Ready, &ready_tenant()), Verdict::Reached("ready"));
        assert_eq!(judge(Goal::Ready, &waiting_tenant()), Verdict::Waiting);
        let mut edited = ready_tenant();
        edited.metadata.generation = Some(3);
        assert_eq!(judge(Goal::Ready, &edited), Verdict::Waiting);
    }

    #[test]
    fn a_stalled_tenant_is_not_waited_for() {
        let mut tenant = waiting_tenant();
        let conditions = &mut tenant.status.as_mut().unwrap().conditions;
        let mut stalled = conditions[0].clone();
        (stalled.type_, stalled.status) = ("Stalled".into(), "True".into());
        (stalled.reason, stalled.message) = ("Conflict".into(), "shop/other owns it".into());
        conditions.push(stalled);
        let Verdict::Hopeless(why) = judge(Goal::Ready, &tenant) else { panic!("still waiting") };
        assert!(why.ends_with("Conflict: shop/other owns it"), "{why}");
        tenant.metadata.generation = Some(3);
        assert_eq!(judge(Goal::Ready, &tenant), Verdict::Waiting, "the spec was changed since");
    }

    #[test]
    fn a_paused_tenant_is_not_waited_for() {
        let mut tenant = waiting_tenant();
        let conditions = &mut tenant.status.as_mut().unwrap().conditions;
        let mut paused = conditions[0].clone();
        (paused.type_, paused.status, paused.reason) = ("Paused".into(), "True".into(), "Paused".into());
        paused.message = "nobody touches it".into();
        conditions.push(paused);
        assert_eq!(judge(Goal::Ready, &tenant), Verdict::Hopeless("it is paused: nobody touches it".to_owned()));
    }

    #[test]
    fn gone_is_gone_also_when_the_name_lives_on() {
        assert_eq!(resolve_verdict(Goal::Deleted, "u-1", None), Verdict::Reached("deleted"));
        assert_eq!(judge(Goal::Deleted, &ready_tenant()), Verdict::Waiting);
        assert_eq!(resolve_verdict(Goal::Deleted, "u-0", Some(&ready_tenant())), Verdict::Reached("deleted"));
        assert!(matches!(resolve_verdict(Goal::Ready, "u-1", None), Verdict::Hopeless(_)));
    }
}
