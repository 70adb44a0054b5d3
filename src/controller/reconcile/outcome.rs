//! Performing the steps of a plan, and the outcome of a reconcile.

pub use crate::controller::queue::outcome::ReconcileOutcome;
use crate::{
    api::ConditionType,
    domain::{class::ErrorClass, ident::ObjectId},
    effects::{
        error::EffectError,
        world::{ReconcileScope, World},
    },
    plan::{
        Plan,
        report::PartState,
        step::{Done, Execution},
    },
};

/// Performs the steps of a plan in order, and stops at the first failure.
pub async fn perform_steps<S: ReconcileScope, W: World<S>>(
    world: &W,
    scope: &S,
    steps: &[S::Step],
) -> (Execution<S::Step>, Option<EffectError>) {
    let mut execution = Execution::default();
    for step in steps {
        match world.perform(scope, step).await {
            Ok(done) => execution.done.push((step.clone(), done)),
            Err(error) => {
                execution.failed = Some((step.clone(), error.failure()));
                return (execution, Some(error));
            }
        }
    }
    (execution, None)
}

/// The outcome of the performed steps, before status and events are written.
pub fn resolve_outcome<S>(plan: &Plan<S>, execution: &Execution<S>, error: Option<EffectError>) -> ReconcileOutcome {
    let from_plan = plan.reports.iter().filter_map(|v| match v.state {
        PartState::Refused(class) | PartState::Unread(class) => Some(class),
        PartState::Ready | PartState::InProgress | PartState::Waiting => None,
    });
    let from_steps = execution.failed.as_ref().map(|(_, failure)| failure.class);
    let written = execution.done.iter().filter_map(|(_, done)| match done {
        Done::At(version) => Some(*version),
        Done::Plain => None,
    });
    ReconcileOutcome {
        error_class: from_steps.into_iter().chain(from_plan).max_by_key(|class| severity(*class)),
        error,
        awaits: written.max().or(plan.awaits),
        wake_at: plan.wake_at,
        steps: execution.done.len(),
        database: None,
        settled: plan.steps.is_empty() && plan.reports.iter().all(|v| v.state == PartState::Ready),
        gone: false,
    }
}

/// Performs the steps that write status and events. Their failure is the failure of the reconcile, unless an earlier step
/// failed.
pub async fn perform_report<S: ReconcileScope, W: World<S>>(
    world: &W,
    scope: &S,
    steps: &[S::Step],
    outcome: &mut ReconcileOutcome,
) {
    let (execution, error) = perform_steps(world, scope, steps).await;
    outcome.add_report(execution.done.len(), error);
}

impl ReconcileOutcome {
    /// Whether an object that is being deleted without the operator's finalizer needs no further reconcile.
    pub fn is_finished<S>(&self, plan: &Plan<S>) -> bool {
        let blocked = plan.reports.iter().any(|v| v.part == ConditionType::DeletionBlocked);
        !blocked && self.error_class.is_none() && self.awaits.is_none() && self.wake_at.is_none()
    }
}

/// Logs what blocks the deletion of an orphan, which has no status.
pub fn log_orphan<S>(object: &ObjectId, plan: &Plan<S>) {
    for report in &plan.reports {
        if matches!(report.state, PartState::Refused(_) | PartState::Unread(_)) {
            tracing::warn!(%object, uid = %object.uid, why = report.note, "the deletion of an orphan is blocked");
        }
    }
}

/// Which of several error classes decides: a class that is retried soon wins over a class that requires manual intervention.
fn severity(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Invalid => 0,
        ErrorClass::Conflict => 1,
        ErrorClass::Denied => 2,
        ErrorClass::Bug => 3,
        ErrorClass::Waiting => 4,
        ErrorClass::Transient => 5,
    }
}
