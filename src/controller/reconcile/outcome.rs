//! What every pass has in common: doing the steps of a plan, and saying how it went.

use crate::{
    api::{Condition, ConditionType},
    domain::{
        class::ErrorClass,
        ident::{ObjectId, Version},
    },
    effects::{
        error::EffectError,
        world::{ReconcileScope, World},
    },
    plan::{
        Plan,
        report::PartState,
        step::{Done, Execution, ObjectStep},
    },
    status::project_paused,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What a pass has of its object.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// The object.
    Whole,
    /// What could be saved of an object that does not decode, and why it does not.
    Unreadable(&'a str),
    /// What is known of an object that vanished without us: it counts as being deleted, and nobody reads its status.
    Vanished,
}

/// How a pass ended. The controller decides from this alone when to look again.
#[derive(Debug, Default)]
pub struct ReconcileOutcome {
    /// The worst trouble met: a failed step, a part that could not be read, or a refusal.
    pub error_class: Option<ErrorClass>,
    /// The error of the step that failed, for the log.
    pub error: Option<EffectError>,
    /// An acknowledgement of this entry version is awaited.
    pub awaits: Option<Version>,
    /// Look again at this time.
    pub wake_at: Option<Timestamp>,
    /// Steps done, status and events included.
    pub steps: usize,
    /// The database instance that its parts are in, if the pass looked at one: `Some(None)` where that is not known, because
    /// of instances that can't be asked.
    pub database: Option<Option<String>>,
    /// The object needs nothing further: it is ready, or it is gone.
    pub settled: bool,
    /// Nothing is left to come back for: the finalizer was removed, or there was none.
    pub gone: bool,
}

impl ReconcileOutcome {
    /// Adds how writing status and events went. A failure there is the pass's failure, unless an earlier step had one.
    pub fn add_report(&mut self, done: usize, error: Option<EffectError>) {
        self.steps += done;
        if let Some(error) = error {
            self.settled = false;
            self.error_class.get_or_insert(error.class);
            self.error.get_or_insert(error);
        }
    }
}

/// Does the steps of a plan in order and stops at the first failure.
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

/// The outcome of a plan that got this far, before status and events were written.
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

/// The steps of a paused object: it says so, and nothing else is touched. `previous` are the conditions that its status
/// has; `with_conditions` makes its status with others.
pub fn plan_rest<S: ReconcileScope>(
    metadata: &ObjectMeta,
    previous: &[Condition],
    with_conditions: impl FnOnce(Vec<Condition>) -> S::Status,
    now: Timestamp,
) -> Vec<S::Step> {
    let (generation, deleting) = (metadata.generation.unwrap_or_default(), metadata.deletion_timestamp.is_some());
    let (conditions, notices) = project_paused(previous, generation, deleting, now);
    let mut steps = Vec::new();
    if conditions != previous {
        steps.push(S::Step::from(ObjectStep::WriteStatus(Box::new(with_conditions(conditions)))));
    }
    steps.extend(notices.into_iter().map(|notice| S::Step::from(ObjectStep::RecordEvent(notice))));
    steps
}

/// Performs the steps of a paused object.
pub async fn rest<S: ReconcileScope, W: World<S>>(world: &W, scope: &S, steps: &[S::Step]) -> ReconcileOutcome {
    let (execution, error) = perform_steps(world, scope, steps).await;
    let mut outcome = ReconcileOutcome::default();
    outcome.add_report(execution.done.len(), error);
    outcome
}

impl ReconcileOutcome {
    /// Whether there is nothing to come back for, in the pass of an object without our finalizer that is to go.
    pub fn is_over<S>(&self, plan: &Plan<S>) -> bool {
        let blocked = plan.reports.iter().any(|v| v.part == ConditionType::DeletionBlocked);
        !blocked && self.error_class.is_none() && self.awaits.is_none() && self.wake_at.is_none()
    }
}

/// Tells the log what keeps the rest of an object that vanished: there is no status to tell it in.
pub fn tell_vanished<S>(object: &ObjectId, plan: &Plan<S>) {
    for report in &plan.reports {
        if matches!(report.state, PartState::Refused(_) | PartState::Unread(_)) {
            tracing::warn!(%object, uid = %object.uid, why = report.note, "what is left of a vanished object stays");
        }
    }
}

/// Which trouble decides when several are met: the one that is retried soonest wins over the one that waits for people.
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
