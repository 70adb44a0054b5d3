//! Everything that goes on for one database: the watch over it, signs of life, rotation of logins, and looks for leftovers,
//! old archives and drift.

use super::{archives, drift, heartbeat, logins, supervisor::Supervisor};
use crate::controller::{context::Context, reconcile::orphans};
use crate::{
    domain::class::ErrorClass,
    effects::database::breaker::{BreakerState, CircuitBreaker},
    plan::instance::logins::Rules,
};
use std::{sync::Arc, time::Duration};

/// Starts it, for as long as the process leads.
pub(crate) fn look_after(context: &Arc<Context>, supervisor: Supervisor, beat: Duration, resync: Duration) {
    let (shared, breaker) = (|| Arc::clone(context), supervisor.breaker.clone());
    tokio::spawn(supervisor.run());
    tokio::spawn(heartbeat::beat(shared(), breaker.clone(), beat));
    tokio::spawn(orphans::collect_in(shared(), breaker.clone(), resync));
    tokio::spawn(archives::sweep(shared(), breaker.clone(), resync));
    let drift_seconds = breaker.database.settings().drift_seconds;
    if drift_seconds > 0 {
        tokio::spawn(drift::watch(shared(), breaker.clone(), Duration::from_secs(drift_seconds.into())));
    }
    let rules = Rules {
        period_seconds: breaker.database.settings().login_rotation_seconds.into(),
        ack_timeout_seconds: context.installation.ack_timeout_seconds,
    };
    tokio::spawn(logins::rotate(shared(), breaker.clone(), resync, rules));
    tokio::spawn(announce_database(shared(), breaker));
}

/// Lets everybody who waited for a database look again when it is back, and when it is known that it is another one or
/// refuses us: each of them has something new to tell.
async fn announce_database(context: Arc<Context>, breaker: CircuitBreaker) {
    let mut state = breaker.follow();
    loop {
        let outage = matches!(&*state.borrow_and_update(), BreakerState::Closed(read_error) if read_error.class == ErrorClass::Transient);
        if !outage {
            context.scheduler.database_answered(breaker.name());
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
