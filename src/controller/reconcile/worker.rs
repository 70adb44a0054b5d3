//! A worker: takes the next object, runs its pass, and hands the outcome to the scheduler. A pass that panics is a bug of
//! ours and ends alone.

use super::{
    agent_config::run_agent_pass,
    orphans::{exists, resolve_vanished_agent, resolve_vanished_tenant},
    outcome::{Form, ReconcileOutcome},
    tenant::run_tenant_pass,
    undecodable::{locate, salvage_agent, salvage_tenant},
};
use crate::controller::{
    context::Context,
    queue::work_queue::{Priority, Target},
};
use crate::{
    api::{AgentConfigSpec, TenantSpec, names},
    domain::{
        class::ErrorClass,
        ident::{ObjectId, Uid},
    },
    effects::{error::EffectError, kubernetes::cache::Key},
    telemetry::Chain,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Longest time of one pass; every request in it has its own, shorter bound.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// Works until told to stop; the pass under way is finished.
pub async fn work(context: Arc<Context>, mut stop: watch::Receiver<bool>) {
    loop {
        let target = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            target = context.scheduler.take() => target,
        };
        let looked = context.scheduler.replica_changes();
        let started = context.clock.monotonic();
        let task = tokio::spawn(pass(Arc::clone(&context), target.clone()));
        let (outcome, priority) = match tokio::time::timeout(PASS_TIMEOUT, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(join)) => {
                (failed(EffectError::from_source(ErrorClass::Bug, "the pass ended early", join)), Priority::Retry)
            }
            Err(elapsed) => {
                let error = EffectError::from_source(ErrorClass::Transient, "the pass took too long", elapsed);
                (failed(error), Priority::Retry)
            }
        };
        let took = context.clock.monotonic().saturating_sub(started);
        tell(&target, &outcome, took);
        context.metrics.count_reconcile(target.kind(), &outcome, took);
        if let Some(error) = &outcome.error {
            context.note_fencing(error);
        }
        context.scheduler.settle(&target, &outcome, looked, priority);
    }
}

fn failed(error: EffectError) -> ReconcileOutcome {
    ReconcileOutcome { error_class: Some(error.class), error: Some(error), ..ReconcileOutcome::default() }
}

/// One line for a pass that did something, one for a failure with its whole chain, and nothing at rest.
fn tell(target: &Target, outcome: &ReconcileOutcome, took: Duration) {
    let (kind, object, millis) = (target.kind(), target.key().to_string(), took.as_millis());
    match (&outcome.error, outcome.error_class) {
        (Some(error), Some(ErrorClass::Bug)) => {
            tracing::error!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "pass failed")
        }
        (Some(error), Some(ErrorClass::Waiting)) => {
            tracing::debug!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "pass waits")
        }
        (Some(error), _) => {
            tracing::warn!(kind, object, millis, class = error.class.as_str(), error = %Chain(error), "pass failed")
        }
        (None, _) if outcome.steps > 0 => {
            tracing::info!(kind, object, millis, steps = outcome.steps, settled = outcome.settled, "pass done")
        }
        (None, _) => tracing::debug!(kind, object, millis, "nothing to do"),
    }
}

async fn pass(context: Arc<Context>, target: Target) -> (ReconcileOutcome, Priority) {
    let installation = context.installation_now();
    let now = || context.clock.now();
    let gone = || (ReconcileOutcome { gone: true, ..ReconcileOutcome::default() }, Priority::Periodic);
    match &target {
        Target::Tenant(key) => {
            let Some(watched) = context.world.tenants.cache.get(key) else { return gone() };
            let priority = priority_of(watched.metadata(), names::TENANT_FINALIZER);
            let outcome = match &watched.object {
                Ok(tenant) => run_tenant_pass(&context.world, tenant, Form::Whole, &installation, now).await,
                Err(broken) => match context.world.tenants.observe_raw(key).await {
                    Ok(Some(raw)) => {
                        let (saved, wrong) = (salvage_tenant(broken, &raw), locate::<TenantSpec>(broken, &raw));
                        run_tenant_pass(&context.world, &saved, Form::Unreadable(&wrong), &installation, now).await
                    }
                    Ok(None) => return gone(),
                    Err(error) => failed(error),
                },
            };
            (outcome, priority)
        }
        Target::Agent(key) => {
            let Some(watched) = context.world.agents.cache.get(key) else { return gone() };
            let priority = priority_of(watched.metadata(), names::AGENT_CONFIG_FINALIZER);
            let outcome = match &watched.object {
                Ok(agent) => run_agent_pass(&context.world, agent, Form::Whole, &installation, now).await,
                Err(broken) => match context.world.agents.observe_raw(key).await {
                    Ok(Some(raw)) => {
                        let (saved, wrong) = (salvage_agent(broken, &raw), locate::<AgentConfigSpec>(broken, &raw));
                        run_agent_pass(&context.world, &saved, Form::Unreadable(&wrong), &installation, now).await
                    }
                    Ok(None) => return gone(),
                    Err(error) => failed(error),
                },
            };
            (outcome, priority)
        }
        Target::VanishedTenant(key, uid, tenant_id) => {
            if exists(&context.world.tenants.cache, key, uid) {
                return gone();
            }
            let tenant = resolve_vanished_tenant(&object(key, uid), tenant_id, now());
            let outcome = run_tenant_pass(&context.world, &tenant, Form::Vanished, &installation, now).await;
            (outcome, Priority::Change)
        }
        Target::VanishedAgent(key, uid) => {
            if exists(&context.world.agents.cache, key, uid) {
                return gone();
            }
            let agent = resolve_vanished_agent(&object(key, uid), now());
            let outcome = run_agent_pass(&context.world, &agent, Form::Vanished, &installation, now).await;
            (outcome, Priority::Change)
        }
    }
}

fn object(key: &Key, uid: &Uid) -> ObjectId {
    ObjectId { namespace: key.namespace.clone(), name: key.name.clone(), uid: uid.clone() }
}

/// New objects and deletions go before periodic work when the database is back.
fn priority_of(metadata: &ObjectMeta, finalizer: &str) -> Priority {
    let begun = metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == finalizer));
    if metadata.deletion_timestamp.is_some() || !begun { Priority::Change } else { Priority::Retry }
}

/// The key of a namespace and name, for those who wake others.
pub fn tenant_target(namespace: &str, name: &str) -> Target {
    Target::Tenant(Key::new(namespace, name))
}
