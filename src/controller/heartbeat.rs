//! The leader's sign of life in the database, by which another cluster can tell whether this one is no more.

use super::context::Context;
use crate::effects::gate::GateState;
use std::{sync::Arc, time::Duration};

/// Beats for as long as the process leads.
pub(super) async fn beat(context: Arc<Context>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        if !matches!(context.world.gate.state(), GateState::Open(_)) || context.fence.check().is_err() {
            continue;
        }
        // An outage is told by whoever watches over the database, a newer leader by the next change.
        if let Err(error) = context.world.perform_beat().await {
            tracing::debug!(error = error.chain(), "no sign of life was left in the database");
        }
    }
}
