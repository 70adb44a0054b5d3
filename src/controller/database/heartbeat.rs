//! The leader's heartbeat in each database. Another cluster takes over tenants only after it has stopped for some time.

use crate::controller::context::OperatorContext;
use crate::effects::database::breaker::CircuitBreaker;
use std::{sync::Arc, time::Duration};

/// Writes heartbeats for as long as the process leads.
pub(crate) async fn write_heartbeats(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        if !breaker.is_closed() || context.fence.check().is_err() {
            continue;
        }
        // The supervisor reports an outage; the next change reports a newer leader.
        if let Err(error) = context.world.perform_heartbeat(&breaker).await {
            tracing::debug!(instance = breaker.name(), error = error.chain(), "the heartbeat was not written");
        }
    }
}
