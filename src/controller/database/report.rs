//! Writes the status of each DatabaseInstance: when the state of its database changes, and every few minutes for its limits.

use crate::controller::context::OperatorContext;
use crate::{
    domain::ident::NamePrefix,
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        error::EffectError,
        kubernetes::instances::InstanceObjects,
    },
    plan::instance::{
        capacity::{ConnectionBudget, Pressure, find_pressure},
        preflight::{InstancePlan, plan_instance},
    },
    status::{InstanceState, InstanceView, project_instance},
};
use std::{sync::Arc, time::Duration};

/// How often the limits are read.
const PERIOD: Duration = Duration::from_secs(300);
/// Minimum time between two reports: changes in between are reported together.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a report that failed.
const RETRY: Duration = Duration::from_secs(15);

/// What the periodic check of a database found.
#[derive(Default)]
struct PeriodicCheck {
    warnings: Vec<String>,
    server_version: Option<i32>,
    pressure: Option<Vec<Pressure>>,
}

/// Reports for as long as the process leads.
pub(crate) async fn report(context: Arc<OperatorContext>, breaker: CircuitBreaker, objects: InstanceObjects) {
    let (mut state, mut fleet) = (breaker.follow(), context.fleet.subscribe());
    // The status that an earlier process wrote stays until this one knows the state.
    if state.wait_for(BreakerState::is_known).await.is_err() {
        return;
    }
    let mut check = PeriodicCheck::default();
    let (mut due, mut warned) = (true, false);
    loop {
        let now = state.borrow_and_update().clone();
        fleet.borrow_and_update();
        if due && now.is_closed() {
            match context.check_limits(&breaker).await {
                Ok(found) => (check, due) = (found, false),
                Err(error) => warn_once(&breaker, &error, "the server's limits were not read", &mut warned),
            }
        }
        let written = context.write_report(&breaker, &now, &check, &objects).await;
        if let Err(error) = &written {
            warn_once(&breaker, error, "the status of a DatabaseInstance was not written", &mut warned);
        }
        // A failure is retried soon. An unavailable database changes its state when it is back.
        let well = written.is_ok() && !(due && breaker.is_closed());
        warned &= !well;
        let pause = if well { context.scheduler.spread(PERIOD) } else { RETRY };
        tokio::time::sleep(MIN_PAUSE).await;
        due = tokio::select! {
            changed = state.changed() => if changed.is_err() { return } else { true },
            changed = fleet.changed() => if changed.is_err() { return } else { due },
            () = tokio::time::sleep(pause) => true,
        };
    }
}

/// Logs a failure once.
fn warn_once(breaker: &CircuitBreaker, error: &EffectError, what: &str, warned: &mut bool) {
    if !std::mem::replace(warned, true) {
        tracing::warn!(
            instance = breaker.name(),
            class = error.class.as_str(),
            error = error.chain(),
            "{what}; it is retried"
        );
    }
}

/// Deletes the DatabaseInstances that the settings don't name any more, until that has succeeded once.
pub(crate) async fn delete_others(context: Arc<OperatorContext>, objects: InstanceObjects) {
    let names: Vec<String> =
        context.world.instances.breakers().iter().map(|breaker| breaker.name().to_owned()).collect();
    while let Err(error) = objects.perform_keep_only(&names).await {
        tracing::debug!(error = error.chain(), "the DatabaseInstances of earlier settings were not deleted");
        tokio::time::sleep(RETRY).await;
    }
}

impl OperatorContext {
    async fn check_limits(&self, breaker: &CircuitBreaker) -> Result<PeriodicCheck, EffectError> {
        let facts = breaker.database.observe_instance(&self.installation.cluster_id).await?;
        let prefix: &NamePrefix = &breaker.database.settings().name_prefix;
        let warnings = match plan_instance(&facts, prefix, None) {
            InstancePlan::Fit { warnings, .. } => warnings,
            InstancePlan::Unfit { findings } => findings,
            InstancePlan::Changed { .. } | InstancePlan::CreateControlSchema | InstancePlan::MigrateControlSchema => {
                Vec::new()
            }
        };
        let headroom = breaker.database.observe_headroom().await?;
        let pressure = find_pressure(&headroom, self.connection_budget(breaker));
        Ok(PeriodicCheck { warnings, server_version: Some(facts.server_version), pressure: Some(pressure) })
    }

    /// The most connections that this operator and the replicas may open, as far as the replicas report it.
    fn connection_budget(&self, breaker: &CircuitBreaker) -> ConnectionBudget {
        let replica_tracker = self.world.replica_tracker.observe();
        let acknowledged = replica_tracker.all.iter().filter(|r| r.running).filter_map(|r| r.acknowledged.as_ref());
        ConnectionBudget {
            operator: breaker.database.settings().max_connections.into(),
            replicas: acknowledged.filter_map(|ack| ack.connection_budget).map(u64::from).sum(),
        }
    }

    async fn write_report(
        &self,
        breaker: &CircuitBreaker,
        state: &BreakerState,
        check: &PeriodicCheck,
        objects: &InstanceObjects,
    ) -> Result<(), EffectError> {
        let state = match state {
            BreakerState::Closed(id) => InstanceState::Available(*id, check.warnings.clone()),
            BreakerState::Open(read_error) => InstanceState::Unavailable(read_error.clone()),
            BreakerState::Changed { expected, found } => {
                let found = found.map_or("one without tenants".to_owned(), |id| id.to_string());
                InstanceState::Changed(format!("another database answers: expected {expected}, found {found}"))
            }
        };
        let seen = match objects.observe(breaker.name()).await? {
            Some(seen) => seen,
            None => objects.perform_create(breaker.name()).await?,
        };
        let view = InstanceView {
            state,
            server_version: check.server_version,
            fleet: self.fleet.borrow().get(breaker.name()).cloned(),
            pressure: check.pressure.clone(),
            generation: seen.metadata.generation.unwrap_or_default(),
        };
        let previous = seen.status.clone().unwrap_or_default();
        let (status, notices) = project_instance(&view, &previous, self.clock.now());
        if status == previous {
            return Ok(());
        }
        for notice in &notices {
            tracing::warn!(instance = breaker.name(), reason = notice.reason.as_str(), "{}", notice.note);
        }
        objects.perform_write_status(&seen, &status).await
    }
}
