//! Finds replaced credentials of providers, which no watch reports: the operator may not list Secrets where Tenants are.

use crate::{
    controller::{
        context::OperatorContext,
        failures::TaskFailures,
        queue::work_queue::{Priority, Target},
    },
    effects::{error::EffectError, kubernetes::cache::Key},
};
use std::{sync::Arc, time::Duration};

/// Least time between two requests: ten a second, however many Secrets there are.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// Asks for the version of each credential once in `period`, or more slowly if there are many, for as long as the process
/// leads. A new version enqueues the AgentConfigs that use it.
pub(crate) async fn check_periodically(context: Arc<OperatorContext>, period: Duration) {
    let mut failures = TaskFailures::new(&context.metrics, "credentials", "");
    let agents = context.world.agents.cache.clone();
    loop {
        let readers = context.world.credentials.readers(|agent| agents.get(agent).is_some());
        let pause = resolve_pause(period, readers.len());
        if readers.is_empty() {
            tokio::time::sleep(pause).await;
        }
        for secret in readers.into_keys() {
            tokio::time::sleep(pause).await;
            match context.check_credential(&secret).await {
                Ok(()) => failures.succeed(),
                Err(error) => {
                    failures.record(&error);
                }
            }
        }
    }
}

/// The pause before each of the requests of a period.
fn resolve_pause(period: Duration, secrets: usize) -> Duration {
    (period / u32::try_from(secrets.max(1)).unwrap_or(u32::MAX)).max(MIN_PAUSE)
}

impl OperatorContext {
    async fn check_credential(&self, secret: &Key) -> Result<(), EffectError> {
        let credentials = &self.world.credentials;
        let version = credentials.observe_version(secret).await?;
        // Read again: an AgentConfig may have been reconciled meanwhile.
        let readers = credentials.readers(|_| true).remove(secret).unwrap_or_default();
        for (agent, read) in readers {
            if read != version {
                // Once for each version, also if its reconcile reads nothing, as that of a paused one.
                credentials.note(agent.clone(), secret.clone(), version);
                self.scheduler.push(Target::Agent(agent), Priority::Change);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_are_spread_over_the_period_and_never_more_than_ten_a_second() {
        let pause = |secrets| resolve_pause(Duration::from_secs(30), secrets).as_millis();
        assert_eq!([0, 1, 10, 300, 10_000].map(pause), [30_000, 30_000, 3_000, 100, 100]);
    }
}
