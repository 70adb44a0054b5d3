//! Looking for drift of the whole fleet: one query for each database and period, which only wakes the tenants that look
//! wrong. What is wrong, and what to do about it, says the look of their own pass.

use crate::controller::{
    context::Context,
    queue::work_queue::Priority,
    reconcile::{orphans::lives, worker::tenant_target},
};
use crate::{
    domain::ident::ObjectId,
    effects::{database::breaker::CircuitBreaker, kubernetes::cache::Key},
};
use std::{sync::Arc, time::Duration};

/// Looks once in a period, spread by ±20 %, for as long as the process leads.
pub(crate) async fn watch(context: Arc<Context>, breaker: CircuitBreaker, period: Duration) {
    loop {
        tokio::time::sleep(context.scheduler.spread(period)).await;
        if breaker.is_open() {
            context.look_for_drift(&breaker).await;
        }
    }
}

impl Context {
    async fn look_for_drift(&self, breaker: &CircuitBreaker) {
        let started = self.clock.monotonic();
        match self.world.observe_drift(breaker).await {
            Ok(found) => {
                let took = self.clock.monotonic().saturating_sub(started);
                self.metrics.looked_for_drift(breaker.name(), found.len(), took);
                if !found.is_empty() {
                    tracing::info!(
                        instance = breaker.name(),
                        tenants = found.len(),
                        millis = took.as_millis(),
                        "tenants look wrong"
                    );
                }
                // What has no Tenant any more is found as a leftover.
                let cache = &self.world.tenants.cache;
                let alive = |o: &&ObjectId| lives(cache, &Key::new(&o.namespace, &o.name), &o.uid);
                for object in found.iter().filter(alive) {
                    self.scheduler.push(tenant_target(&object.namespace, &object.name), Priority::Periodic);
                }
            }
            // An outage is told by whoever watches over the database.
            Err(error) => tracing::debug!(instance = breaker.name(), error = error.chain(), "drift was not looked for"),
        }
    }
}
