//! The leader's sign of life in each database, by which another cluster can tell whether this one is no more.

use crate::controller::context::Context;
use crate::effects::database::breaker::CircuitBreaker;
use std::{sync::Arc, time::Duration};

/// Beats for as long as the process leads.
pub(crate) async fn beat(context: Arc<Context>, breaker: CircuitBreaker, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        if !breaker.is_open() || context.fence.check().is_err() {
            continue;
        }
        // An outage is told by whoever watches over the database, a newer leader by the next change.
        if let Err(error) = context.world.perform_heartbeat(&breaker).await {
            tracing::debug!(
                instance = breaker.name(),
                error = error.chain(),
                "no sign of life was left in the database"
            );
        }
    }
}
