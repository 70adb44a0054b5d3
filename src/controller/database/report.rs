//! Saying how each database stands, as a DatabaseInstance: when something happens to it, and every few minutes its limits.

use crate::controller::context::Context;
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

/// How often the limits are looked at.
const PERIOD: Duration = Duration::from_secs(300);
/// Shortest time between two reports: what happens meanwhile is told together.
const BREATH: Duration = Duration::from_secs(1);
/// Pause after a report that failed.
const RETRY: Duration = Duration::from_secs(15);

/// What a slow look at a database said.
#[derive(Default)]
struct Slow {
    warnings: Vec<String>,
    server_version: Option<i32>,
    pressure: Option<Vec<Pressure>>,
}

/// Reports for as long as the process leads.
pub(crate) async fn report(context: Arc<Context>, breaker: CircuitBreaker, objects: InstanceObjects) {
    let (mut state, mut fleet) = (breaker.follow(), context.fleet.subscribe());
    // What was said before this process began holds until there is something to say.
    if state.wait_for(BreakerState::is_known).await.is_err() {
        return;
    }
    let mut slow = Slow::default();
    let (mut due, mut complained) = (true, false);
    loop {
        let now = state.borrow_and_update().clone();
        fleet.borrow_and_update();
        if due && now.is_open() {
            match context.look_slowly(&breaker).await {
                Ok(found) => (slow, due) = (found, false),
                Err(error) => complain(&breaker, &error, "the server's limits were not looked at", &mut complained),
            }
        }
        let told = context.tell(&breaker, &now, &slow, &objects).await;
        if let Err(error) = &told {
            complain(&breaker, error, "a database's state was not written", &mut complained);
        }
        // What did not go well is tried again soon; a database that is out tells when it is back.
        let well = told.is_ok() && !(due && breaker.is_open());
        complained &= !well;
        let pause = if well { context.scheduler.spread(PERIOD) } else { RETRY };
        tokio::time::sleep(BREATH).await;
        due = tokio::select! {
            changed = state.changed() => if changed.is_err() { return } else { true },
            changed = fleet.changed() => if changed.is_err() { return } else { due },
            () = tokio::time::sleep(pause) => true,
        };
    }
}

/// Says once what does not go well.
fn complain(breaker: &CircuitBreaker, error: &EffectError, what: &str, complained: &mut bool) {
    if !std::mem::replace(complained, true) {
        tracing::warn!(
            instance = breaker.name(),
            class = error.class.as_str(),
            error = error.chain(),
            "{what}; trying on"
        );
    }
}

/// Takes away what was said of databases that are not in the settings any more, until that has been done once.
pub(crate) async fn forget_others(context: Arc<Context>, objects: InstanceObjects) {
    let names: Vec<String> =
        context.world.instances.breakers().iter().map(|breaker| breaker.name().to_owned()).collect();
    while let Err(error) = objects.perform_keep_only(&names).await {
        tracing::debug!(error = error.chain(), "what was said of earlier databases was not taken away");
        tokio::time::sleep(RETRY).await;
    }
}

impl Context {
    async fn look_slowly(&self, breaker: &CircuitBreaker) -> Result<Slow, EffectError> {
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
        Ok(Slow { warnings, server_version: Some(facts.server_version), pressure: Some(pressure) })
    }

    /// What may be opened at most: by this operator, and by the replicas that say so.
    fn connection_budget(&self, breaker: &CircuitBreaker) -> ConnectionBudget {
        let replica_tracker = self.world.replica_tracker.observe();
        let spoken = replica_tracker.all.iter().filter(|r| r.running).filter_map(|r| r.acknowledged.as_ref());
        ConnectionBudget {
            operator: breaker.database.settings().max_connections.into(),
            replicas: spoken.filter_map(|ack| ack.connection_budget).map(u64::from).sum(),
        }
    }

    async fn tell(
        &self,
        breaker: &CircuitBreaker,
        state: &BreakerState,
        slow: &Slow,
        objects: &InstanceObjects,
    ) -> Result<(), EffectError> {
        let state = match state {
            BreakerState::Open(id) => InstanceState::Open(*id, slow.warnings.clone()),
            BreakerState::Closed(read_error) => InstanceState::Closed(read_error.clone()),
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
            server_version: slow.server_version,
            fleet: self.fleet.borrow().get(breaker.name()).cloned(),
            pressure: slow.pressure.clone(),
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
