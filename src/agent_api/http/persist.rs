//! Storing what a provider was paid for: repeated while the database is out of reach.

use crate::{
    agent_api::{
        auth::Admission,
        database::{DatabaseError, Transaction},
    },
    domain::class::ErrorClass,
    telemetry::Chain,
};
use std::{sync::Arc, time::Duration};

/// First and longest wait between two tries.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Runs a transaction until it succeeds, fails for good, or as much time has passed as a drain may take: a process that
/// drains waits for it. The transaction must change nothing more when it runs a second time.
pub(super) async fn persist<T: Transaction>(
    caller: &Admission,
    transaction: Arc<T>,
) -> Result<T::Output, DatabaseError> {
    let context = &caller.context;
    let deadline = context.clock.monotonic() + Duration::from_secs(context.settings.http.drain_seconds);
    let mut wait = WAIT.0;
    loop {
        let error = match context.database.transact(&caller.access, Arc::clone(&transaction)).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        if !is_temporary(error.class()) || context.clock.monotonic() + wait > deadline {
            return Err(error);
        }
        tracing::warn!(request = caller.request.as_str(), error = %Chain(&error), "the outcome is not stored yet; retrying");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT.1);
    }
}

fn is_temporary(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Waiting | ErrorClass::Transient => true,
        ErrorClass::Invalid | ErrorClass::Conflict | ErrorClass::Denied | ErrorClass::Bug => false,
    }
}
