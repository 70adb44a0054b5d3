//! Drift checks of the whole fleet: one query for each database and period. The query only enqueues tenants with drift; their
//! own reconcile decides the repair.

use crate::controller::{
    context::OperatorContext,
    queue::work_queue::Priority,
    reconcile::{orphans::exists, worker::tenant_target},
};
use crate::{
    domain::ident::ObjectId,
    effects::{database::breaker::CircuitBreaker, kubernetes::cache::Key},
};
use std::{sync::Arc, time::Duration};

/// Checks once in a period, spread by ±20 %, for as long as the process leads.
pub(crate) async fn check_periodically(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    loop {
        tokio::time::sleep(context.scheduler.spread(period)).await;
        if breaker.is_closed() {
            context.check_drift(&breaker).await;
        }
    }
}

impl OperatorContext {
    async fn check_drift(&self, breaker: &CircuitBreaker) {
        let started = self.clock.monotonic();
        match self.world.observe_drift(breaker).await {
            Ok(found) => {
                let took = self.clock.monotonic().saturating_sub(started);
                self.metrics.record_drift_check(breaker.name(), found.len(), took);
                if !found.is_empty() {
                    tracing::info!(
                        instance = breaker.name(),
                        tenants = found.len(),
                        millis = took.as_millis(),
                        "tenants have drifted"
                    );
                }
                // Data without a Tenant is an orphan, which another task finds.
                let cache = &self.world.tenants.cache;
                let alive = |o: &&ObjectId| exists(cache, &Key::new(&o.namespace, &o.name), &o.uid);
                for object in found.iter().filter(alive) {
                    self.scheduler.push(tenant_target(&object.namespace, &object.name), Priority::Periodic);
                }
            }
            // The supervisor reports an outage.
            Err(error) => tracing::debug!(instance = breaker.name(), error = error.chain(), "the drift check failed"),
        }
    }
}
