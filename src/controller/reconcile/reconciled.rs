//! The reconcile of one object: resolve, observe, plan, perform, project, report. Tenants and AgentConfigs differ only in what
//! [`Reconciled`] names.

use super::outcome::{ReconcileOutcome, log_orphan, perform_report, perform_steps, resolve_outcome};
use crate::{
    api::{Condition, Notice},
    domain::{
        ident::{ObjectId, Uid},
        resolve::resolve_paused,
    },
    effects::{
        error::EffectError,
        kubernetes::objects::{Broken, Objects, Owned},
        world::{ReconcileScope, World, live::LiveWorld},
    },
    plan::{
        Plan,
        installation::Installation,
        step::{Execution, ObjectStep},
    },
    status::project_paused,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the operator has of an object.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// The object.
    Whole,
    /// The readable parts of an object that does not decode, and the error.
    Unreadable(&'a str),
    /// The known parts of an object that was deleted without the operator. It counts as being deleted, and has no status.
    Vanished,
}

/// The observation of a kind.
pub(crate) type Observed<R> = <<R as Reconciled>::WorldScope as ReconcileScope>::Observed;
/// What is observed of a kind before everything else.
pub(crate) type First<R> = <<R as Reconciled>::WorldScope as ReconcileScope>::First;
/// A step of a kind.
pub(crate) type Step<R> = <<R as Reconciled>::WorldScope as ReconcileScope>::Step;
/// The status of a kind.
pub(crate) type Status<R> = <<R as Reconciled>::WorldScope as ReconcileScope>::Status;

/// A kind of object that the operator reconciles.
pub trait Reconciled: Owned {
    /// Its spec, to find the invalid field of an object that does not decode.
    type Spec: DeserializeOwned;
    /// What the world has to know about the object.
    type WorldScope: ReconcileScope<Status: Clone + Default + PartialEq>;
    /// What the user wants of the object.
    type Intent: Send;

    /// The objects of this kind.
    fn objects(world: &LiveWorld) -> &Objects<Self>;

    /// The readable parts of an object that does not decode.
    fn salvage(broken: &Broken, raw: &Value) -> Self;

    /// The scope of a reconcile.
    fn resolve_scope(&self, form: Form<'_>) -> Self::WorldScope;

    /// A step that comes before everything else is observed, whatever is wrong with the object and though it is paused.
    fn plan_first(
        _observed: &First<Self>,
        _scope: &Self::WorldScope,
        _installation: &Installation,
        _now: Timestamp,
    ) -> Option<Step<Self>> {
        None
    }

    /// The written status.
    fn status(&self) -> Option<&Status<Self>>;

    /// The conditions in a status.
    fn conditions(status: &mut Status<Self>) -> &mut Vec<Condition>;

    /// The user's intent.
    fn resolve_intent(&self, form: Form<'_>, scope: &Self::WorldScope) -> Self::Intent;

    /// Whether the plan for an intent needs an observation.
    fn needs_observation(intent: &Self::Intent, scope: &Self::WorldScope) -> bool;

    /// Records the observed database instance in the scope, for the steps. Returns it as [`ReconcileOutcome::database`].
    fn set_instance(_scope: &mut Self::WorldScope, _observed: &Observed<Self>) -> Option<Option<String>> {
        None
    }

    /// The plan for an intent.
    fn plan(
        intent: Self::Intent,
        observed: Option<&Observed<Self>>,
        scope: &Self::WorldScope,
        installation: &Installation,
        now: Timestamp,
    ) -> Plan<Step<Self>>;

    /// The status after the steps, and the events of the reconcile.
    fn project(
        &self,
        planned: &Planned<Self>,
        execution: &Execution<Step<Self>>,
        now: Timestamp,
    ) -> (Status<Self>, Vec<Notice>);

    /// The events of the performed steps, for an object without further writes of its status.
    fn project_last_events(_execution: &Execution<Step<Self>>) -> Vec<Notice> {
        Vec::new()
    }

    /// The identity of the object.
    fn id(&self) -> ObjectId {
        ObjectId {
            namespace: self.meta().namespace.clone().unwrap_or_default(),
            name: self.meta().name.clone().unwrap_or_default(),
            uid: Uid(self.meta().uid.clone().unwrap_or_default()),
        }
    }

    /// The generation of the spec.
    fn generation(&self) -> i64 {
        self.meta().generation.unwrap_or_default()
    }

    /// Whether the object is being deleted.
    fn is_deleted(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// Whether the object is being deleted without the operator's finalizer: it may be gone, and its status is not written.
    fn is_released(&self) -> bool {
        let finalizers = self.meta().finalizers.as_deref().unwrap_or_default();
        self.is_deleted() && !finalizers.iter().any(|finalizer| finalizer == Self::FINALIZER)
    }
}

/// What a reconcile observed, and its plan.
pub struct Planned<R: Reconciled> {
    /// The scope, with the observed instance.
    pub scope: R::WorldScope,
    /// The installation, as seen from that instance.
    pub installation: Installation,
    /// The observation, if there was one.
    pub observed: Option<Observed<R>>,
    /// The observed database instance, as in [`ReconcileOutcome::database`].
    pub database: Option<Option<String>>,
    /// The plan.
    pub plan: Plan<Step<R>>,
}

/// Reconciles an object.
pub async fn reconcile<R: Reconciled, W: World<R::WorldScope>>(
    world: &W,
    object: &R,
    form: Form<'_>,
    installation: &Installation,
    now: impl Fn() -> Timestamp,
) -> ReconcileOutcome {
    let scope = object.resolve_scope(form);
    if let Some(step) = R::plan_first(&world.observe_first(&scope), &scope, installation, now()) {
        let (execution, error) = perform_steps(world, &scope, &[step]).await;
        // The rest follows at once.
        let mut outcome = ReconcileOutcome { wake_at: Some(now()), ..ReconcileOutcome::default() };
        outcome.add_report(execution.done.len(), error);
        return outcome;
    }
    if let Some(steps) = plan_paused(object, now()) {
        let mut outcome = ReconcileOutcome::default();
        perform_report(world, &scope, &steps, &mut outcome).await;
        return outcome;
    }
    let planned = observe_and_plan(world, object, form, scope, installation, &now).await;
    let (execution, error) = perform_steps(world, &planned.scope, &planned.plan.steps).await;
    let mut outcome = planned.resolve_outcome(object, &execution, error);
    if matches!(form, Form::Vanished) {
        log_orphan(&object.id(), &planned.plan);
    }
    let report = planned.plan_report(object, &execution, &outcome, now());
    perform_report(world, &planned.scope, &report, &mut outcome).await;
    outcome
}

/// The steps of a paused object, which only report that it is paused; `None` if it is not.
pub fn plan_paused<R: Reconciled>(object: &R, now: Timestamp) -> Option<Vec<Step<R>>> {
    let annotations = object.meta().annotations.clone().unwrap_or_default();
    if resolve_paused(&annotations) != Ok(true) {
        return None;
    }
    let mut status = object.status().cloned().unwrap_or_default();
    let previous = R::conditions(&mut status).clone();
    let (conditions, notices) = project_paused(&previous, object.generation(), object.is_deleted(), now);
    let changed = conditions != previous;
    *R::conditions(&mut status) = conditions;
    Some(plan_writes::<R>(changed.then_some(status), notices))
}

/// Observes the world of an object, and plans.
pub async fn observe_and_plan<R: Reconciled, W: World<R::WorldScope>>(
    world: &W,
    object: &R,
    form: Form<'_>,
    mut scope: R::WorldScope,
    installation: &Installation,
    now: impl Fn() -> Timestamp,
) -> Planned<R> {
    let intent = object.resolve_intent(form, &scope);
    let observed = if R::needs_observation(&intent, &scope) { Some(world.observe(&scope).await) } else { None };
    let database = observed.as_ref().and_then(|observed| R::set_instance(&mut scope, observed));
    let installation = installation.clone().at(database.as_ref().and_then(Option::as_deref));
    let plan = R::plan(intent, observed.as_ref(), &scope, &installation, now());
    Planned { scope, installation, observed, database, plan }
}

impl<R: Reconciled> Planned<R> {
    /// The outcome of the performed steps, before status and events are written.
    pub fn resolve_outcome(
        &self,
        object: &R,
        execution: &Execution<Step<R>>,
        error: Option<EffectError>,
    ) -> ReconcileOutcome {
        let mut outcome = resolve_outcome(&self.plan, execution, error);
        outcome.database = self.database.clone();
        let released = Step::<R>::from(ObjectStep::RemoveFinalizer);
        outcome.gone = execution.done.iter().any(|(step, _)| *step == released)
            || (object.is_released() && outcome.is_finished(&self.plan));
        outcome
    }

    /// The steps that write the status and the events of the reconcile.
    pub fn plan_report(
        &self,
        object: &R,
        execution: &Execution<Step<R>>,
        outcome: &ReconcileOutcome,
        now: Timestamp,
    ) -> Vec<Step<R>> {
        if outcome.gone || object.is_released() {
            return plan_writes::<R>(None, R::project_last_events(execution));
        }
        let (status, notices) = object.project(self, execution, now);
        let changed = object.status().map_or_else(|| status != Status::<R>::default(), |previous| status != *previous);
        plan_writes::<R>(changed.then_some(status), notices)
    }
}

fn plan_writes<R: Reconciled>(status: Option<Status<R>>, notices: Vec<Notice>) -> Vec<Step<R>> {
    let status = status.map(|status| ObjectStep::WriteStatus(Box::new(status)));
    status.into_iter().chain(notices.into_iter().map(ObjectStep::RecordEvent)).map(Step::<R>::from).collect()
}
