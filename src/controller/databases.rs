//! Everything that goes on for one database: the watch over it, signs of life, rotation of logins, and looks for leftovers,
//! old archives and drift.

use super::{archives, context::Context, drift, heartbeat, instance::Supervisor, leftovers, logins};
use crate::{
    domain::class::ErrorClass,
    effects::gate::{Gate, GateState},
    plan::logins::Rules,
};
use std::{sync::Arc, time::Duration};

/// Starts it, for as long as the process leads.
pub(super) fn look_after(context: &Arc<Context>, supervisor: Supervisor, beat: Duration, resync: Duration) {
    let (shared, gate) = (|| Arc::clone(context), supervisor.gate.clone());
    tokio::spawn(supervisor.run());
    tokio::spawn(heartbeat::beat(shared(), gate.clone(), beat));
    tokio::spawn(leftovers::collect_in(shared(), gate.clone(), resync));
    tokio::spawn(archives::sweep(shared(), gate.clone(), resync));
    let drift_seconds = gate.database.settings().drift_seconds;
    if drift_seconds > 0 {
        tokio::spawn(drift::watch(shared(), gate.clone(), Duration::from_secs(drift_seconds.into())));
    }
    let rules = Rules {
        period_seconds: gate.database.settings().login_rotation_seconds.into(),
        ack_timeout_seconds: context.installation.ack_timeout_seconds,
    };
    tokio::spawn(logins::rotate(shared(), gate.clone(), resync, rules));
    tokio::spawn(announce_database(shared(), gate));
}

/// Lets everybody who waited for a database look again when it is back, and when it is known that it is another one or
/// refuses us: each of them has something new to tell.
async fn announce_database(context: Arc<Context>, gate: Gate) {
    let mut state = gate.follow();
    loop {
        let outage =
            matches!(&*state.borrow_and_update(), GateState::Closed(unseen) if unseen.class == ErrorClass::Transient);
        if !outage {
            context.scheduler.database_answered(gate.name());
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
