//! The background tasks of one database: its supervisor, heartbeats, rotation of logins, and the searches for orphans,
//! expired archives and drift.

use super::{archives, drift, heartbeat, logins, supervisor::Supervisor};
use crate::controller::{context::OperatorContext, reconcile::orphans};
use crate::{
    domain::class::ErrorClass,
    effects::database::breaker::{BreakerState, CircuitBreaker},
    plan::instance::logins::Rules,
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Starts them, for as long as the process leads.
pub(crate) fn start(
    tasks: &mut JoinSet<()>,
    context: &Arc<OperatorContext>,
    supervisor: Supervisor,
    heartbeat_interval: Duration,
    resync: Duration,
) {
    let (shared, breaker) = (|| Arc::clone(context), supervisor.breaker.clone());
    tasks.spawn(supervisor.run());
    tasks.spawn(heartbeat::write_heartbeats(shared(), breaker.clone(), heartbeat_interval));
    tasks.spawn(orphans::search_ledger(shared(), breaker.clone(), resync));
    tasks.spawn(archives::drop_expired(shared(), breaker.clone(), resync));
    let drift_seconds = breaker.database.settings().drift_seconds;
    if drift_seconds > 0 {
        tasks.spawn(drift::check_periodically(shared(), breaker.clone(), Duration::from_secs(drift_seconds.into())));
    }
    let rules = Rules {
        period_seconds: breaker.database.settings().login_rotation_seconds.into(),
        ack_timeout_seconds: context.installation.ack_timeout_seconds,
    };
    tasks.spawn(logins::rotate(shared(), breaker.clone(), resync, rules));
    tasks.spawn(release_waiting(shared(), breaker));
}

/// Releases the objects that wait for a database when it answers again, and when it turns out to be replaced or unfit: their
/// status changes then.
async fn release_waiting(context: Arc<OperatorContext>, breaker: CircuitBreaker) {
    let mut state = breaker.follow();
    loop {
        let outage = matches!(&*state.borrow_and_update(), BreakerState::Open(read_error) if read_error.class == ErrorClass::Transient);
        if !outage {
            context.scheduler.release_parked(breaker.name());
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
