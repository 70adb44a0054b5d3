//! Looking for drift of the whole fleet: one query for each database and period, which only wakes the tenants that look
//! wrong. What is wrong, and what to do about it, says the look of their own pass.

use super::{context::Context, leftovers::lives, queue::Urgency, worker::tenant_target};
use crate::{
    domain::ident::ObjectId,
    effects::{gate::Gate, kubernetes::cache::Key},
};
use std::{sync::Arc, time::Duration};

/// Looks once in a period, spread by ±20 %, for as long as the process leads.
pub(super) async fn watch(context: Arc<Context>, gate: Gate, period: Duration) {
    loop {
        tokio::time::sleep(context.scheduler.spread(period)).await;
        if gate.is_open() {
            context.look_for_drift(&gate).await;
        }
    }
}

impl Context {
    async fn look_for_drift(&self, gate: &Gate) {
        let started = self.clock.monotonic();
        match self.world.observe_drift(gate).await {
            Ok(found) => {
                let took = self.clock.monotonic().saturating_sub(started);
                self.metrics.looked_for_drift(gate.name(), found.len(), took);
                if !found.is_empty() {
                    tracing::info!(
                        instance = gate.name(),
                        tenants = found.len(),
                        millis = took.as_millis(),
                        "tenants look wrong"
                    );
                }
                // What has no Tenant any more is found as a leftover.
                let cache = &self.world.tenants.cache;
                let alive = |o: &&ObjectId| lives(cache, &Key::new(&o.namespace, &o.name), &o.uid);
                for object in found.iter().filter(alive) {
                    self.scheduler.push(tenant_target(&object.namespace, &object.name), Urgency::Periodic);
                }
            }
            // An outage is told by whoever watches over the database.
            Err(error) => tracing::debug!(instance = gate.name(), error = error.chain(), "drift was not looked for"),
        }
    }
}
