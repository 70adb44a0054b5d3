//! Drift checks of the whole fleet: one query for each database and period. The query only enqueues tenants with drift; their
//! own reconcile decides the repair.

use crate::controller::{
    context::OperatorContext,
    failures::TaskFailures,
    queue::work_queue::Priority,
    reconcile::{orphans::exists, worker::tenant_target},
};
use crate::{
    domain::ident::ObjectId,
    effects::{database::breaker::CircuitBreaker, error::EffectError, kubernetes::cache::Key},
};
use std::{sync::Arc, time::Duration};

/// Checks once in a period, spread by ±20 %, for as long as the process leads.
pub(crate) async fn check_periodically(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    let mut failures = TaskFailures::new(&context.metrics, "drift", breaker.name());
    loop {
        tokio::time::sleep(context.scheduler.spread(period)).await;
        if breaker.is_closed() {
            match context.check_drift(&breaker).await {
                Ok(()) => failures.succeed(),
                Err(error) => {
                    failures.record(&error);
                }
            }
        }
    }
}

impl OperatorContext {
    async fn check_drift(&self, breaker: &CircuitBreaker) -> Result<(), EffectError> {
        let started = self.clock.monotonic();
        let found = self.world.observe_drift(breaker).await?;
        let took = self.clock.monotonic().saturating_sub(started);
        self.metrics.record_drift_check(breaker.name(), found.len(), took);
        if !found.is_empty() {
            let (tenants, millis) = (found.len(), took.as_millis());
            tracing::info!(instance = breaker.name(), tenants, millis, "tenants have drifted");
        }
        // Data without a Tenant is an orphan, which another task finds.
        let cache = &self.world.tenants.cache;
        let alive = |o: &&ObjectId| exists(cache, &Key::new(&o.namespace, &o.name), &o.uid);
        for object in found.iter().filter(alive) {
            self.scheduler.push(tenant_target(&object.namespace, &object.name), Priority::Periodic);
        }
        Ok(())
    }
}
