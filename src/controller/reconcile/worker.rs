//! A worker: takes the next object, reconciles it, and gives the outcome to the scheduler. A panic of a reconcile ends only that
//! reconcile.

use super::{
    orphans::{exists, resolve_vanished_agent, resolve_vanished_tenant},
    outcome::ReconcileOutcome,
    reconciled::{Form, Reconciled, reconcile},
    undecodable::locate,
};
use crate::controller::{
    context::OperatorContext,
    queue::work_queue::{Priority, Target},
};
use crate::{
    api::{AgentConfig, Tenant},
    domain::{
        class::ErrorClass,
        ident::{ObjectId, Uid},
    },
    effects::{
        error::EffectError,
        kubernetes::cache::Key,
        world::{World, live::LiveWorld},
    },
    plan::installation::Installation,
    telemetry::Chain,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Timeout of a reconcile. Each of its requests has a shorter timeout.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);

/// Works until `stop` turns true. A running reconcile is finished first.
pub(crate) async fn work(context: Arc<OperatorContext>, mut stop: watch::Receiver<bool>) {
    loop {
        let target = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            target = context.scheduler.take() => target,
        };
        let replica_changes = context.scheduler.replica_changes();
        let started = context.clock.monotonic();
        let task = reconcile_target(Arc::clone(&context), target.clone());
        let (outcome, priority) =
            run_to_end(task, RECONCILE_TIMEOUT).await.unwrap_or_else(|error| (failed(error), Priority::Retry));
        let took = context.clock.monotonic().saturating_sub(started);
        log_outcome(&target, &outcome, took);
        context.metrics.count_reconcile(target.kind(), &outcome, took);
        if let Some(error) = &outcome.error {
            context.note_fencing(error);
        }
        context.scheduler.settle(&target, &outcome, replica_changes, priority);
    }
}

/// Runs a reconcile in a task, which a panic ends. After the timeout it is canceled. It has ended when this returns, so that two
/// reconciles of an object never overlap.
async fn run_to_end<T: Send + 'static>(
    reconcile: impl Future<Output = T> + Send + 'static,
    timeout: Duration,
) -> Result<T, EffectError> {
    let mut task = tokio::spawn(reconcile);
    match tokio::time::timeout(timeout, &mut task).await {
        Ok(ended) => {
            ended.map_err(|error| EffectError::from_source(ErrorClass::Bug, "the reconcile ended early", error))
        }
        Err(elapsed) => {
            task.abort();
            // It may have ended at the last moment; then its result is lost, and it is repeated.
            drop(task.await);
            Err(EffectError::from_source(ErrorClass::Transient, "the reconcile timed out", elapsed))
        }
    }
}

fn failed(error: EffectError) -> ReconcileOutcome {
    ReconcileOutcome { error_class: Some(error.class), error: Some(error), ..ReconcileOutcome::default() }
}

/// Logs a failure with its causes, or a reconcile with changes; at the level `debug` also the others.
fn log_outcome(target: &Target, outcome: &ReconcileOutcome, took: Duration) {
    let (kind, object, millis) = (target.kind(), target.key().to_string(), took.as_millis());
    match (&outcome.error, outcome.error_class) {
        (Some(error), Some(ErrorClass::Bug)) => {
            tracing::error!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "reconcile failed")
        }
        (Some(error), Some(ErrorClass::Waiting)) => {
            tracing::debug!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "reconcile waits")
        }
        (Some(error), _) => {
            tracing::warn!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "reconcile failed")
        }
        (None, _) if outcome.steps > 0 => {
            tracing::info!(kind, object, millis, steps = outcome.steps, settled = outcome.settled, "reconciled")
        }
        (None, _) => tracing::debug!(kind, object, millis, "nothing to change"),
    }
}

/// Reconciles one object. Returns also the priority of its next reconcile.
async fn reconcile_target(context: Arc<OperatorContext>, target: Target) -> (ReconcileOutcome, Priority) {
    let installation = context.installation_now();
    match &target {
        Target::Tenant(key) => reconcile_live::<Tenant>(&context, key, &installation).await,
        Target::Agent(key) => reconcile_live::<AgentConfig>(&context, key, &installation).await,
        Target::VanishedTenant(key, uid, tenant_id) => {
            let orphan = |now| resolve_vanished_tenant(&object(key, uid), tenant_id, now);
            reconcile_orphan(&context, key, uid, &installation, orphan).await
        }
        Target::VanishedAgent(key, uid) => {
            let orphan = |now| resolve_vanished_agent(&object(key, uid), now);
            reconcile_orphan(&context, key, uid, &installation, orphan).await
        }
    }
}

/// Reconciles an object of the cache.
async fn reconcile_live<R: Reconciled>(
    context: &OperatorContext,
    key: &Key,
    installation: &Installation,
) -> (ReconcileOutcome, Priority)
where
    LiveWorld: World<R::WorldScope>,
{
    let (world, now) = (&context.world, || context.clock.now());
    let objects = R::objects(world);
    let Some(watched) = objects.cache.get(key) else { return gone() };
    let priority = priority_of(watched.metadata(), R::FINALIZER);
    let outcome = match &watched.object {
        Ok(object) => reconcile(world, object, Form::Whole, installation, now).await,
        Err(broken) => match objects.observe_raw(key).await {
            Ok(Some(raw)) => {
                let (salvaged, error) = (R::salvage(broken, &raw), locate::<R::Spec>(broken, &raw));
                reconcile(world, &salvaged, Form::Unreadable(&error), installation, now).await
            }
            Ok(None) => return gone(),
            Err(error) => failed(error),
        },
    };
    (outcome, priority)
}

/// Reconciles the remains of an object that was deleted without the operator.
async fn reconcile_orphan<R: Reconciled>(
    context: &OperatorContext,
    key: &Key,
    uid: &Uid,
    installation: &Installation,
    orphan: impl FnOnce(Timestamp) -> R,
) -> (ReconcileOutcome, Priority)
where
    LiveWorld: World<R::WorldScope>,
{
    if exists(&R::objects(&context.world).cache, key, uid) {
        return gone();
    }
    let now = || context.clock.now();
    let outcome = reconcile(&context.world, &orphan(now()), Form::Vanished, installation, now).await;
    (outcome, Priority::Change)
}

fn gone() -> (ReconcileOutcome, Priority) {
    (ReconcileOutcome { gone: true, ..ReconcileOutcome::default() }, Priority::Periodic)
}

fn object(key: &Key, uid: &Uid) -> ObjectId {
    ObjectId { namespace: key.namespace.clone(), name: key.name.clone(), uid: uid.clone() }
}

/// New objects and deletions come before periodic work when a database is back.
fn priority_of(metadata: &ObjectMeta, finalizer: &str) -> Priority {
    let is_new = !metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == finalizer));
    if metadata.deletion_timestamp.is_some() || is_new { Priority::Change } else { Priority::Retry }
}

/// The target of a Tenant.
pub(crate) fn tenant_target(namespace: &str, name: &str) -> Target {
    Target::Tenant(Key::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[tokio::test]
    async fn a_reconcile_that_times_out_is_ended() {
        let written = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&written);
        let reconcile = async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            late.store(true, Ordering::Relaxed);
        };
        let error = run_to_end(reconcile, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Transient);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!written.load(Ordering::Relaxed), "it went on beside the next reconcile");
        assert_eq!(run_to_end(async { 7 }, Duration::from_secs(5)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_reconcile() {
        let error = run_to_end::<()>(async { panic!("a bug") }, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Bug);
    }
}
