//! The leader's sign of life in each database, by which another cluster can tell whether this one is no more.

use super::context::Context;
use crate::effects::gate::Gate;
use std::{sync::Arc, time::Duration};

/// Beats for as long as the process leads.
pub(super) async fn beat(context: Arc<Context>, gate: Gate, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        if !gate.is_open() || context.fence.check().is_err() {
            continue;
        }
        // An outage is told by whoever watches over the database, a newer leader by the next change.
        if let Err(error) = context.world.perform_beat(&gate).await {
            tracing::debug!(instance = gate.name(), error = error.chain(), "no sign of life was left in the database");
        }
    }
}
