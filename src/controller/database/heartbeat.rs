//! The leader's heartbeat in each database. Another cluster takes over tenants only after it has stopped for some time.

use crate::controller::{context::OperatorContext, failures::TaskFailures};
use crate::effects::database::breaker::CircuitBreaker;
use std::{sync::Arc, time::Duration};

/// Writes heartbeats for as long as the process leads.
pub(crate) async fn write_heartbeats(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    let mut failures = TaskFailures::new(&context.metrics, "heartbeat", breaker.name());
    loop {
        tokio::time::sleep(period).await;
        if !breaker.is_closed() || context.fence.check().is_err() {
            continue;
        }
        // The supervisor reports an outage; the next change reports a newer leader.
        match context.world.perform_heartbeat(&breaker).await {
            Ok(()) => failures.succeed(),
            Err(error) => {
                failures.record(&error);
            }
        }
    }
}
