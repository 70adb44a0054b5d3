//! Each instance has its own share of the connections and its own circuit breaker: one that answers nothing delays its own
//! tenants only, and these not for long.

use super::error::DatabaseError;
use crate::clock::Clock;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Failures in a row after which an instance is left alone for a while.
const FAILURES: u32 = 3;
/// First and longest while.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The instances that this replica has connected to.
pub(super) struct ConnectedInstances {
    budget: usize,
    clock: Clock,
    instances: Mutex<HashMap<String, Arc<Instance>>>,
}

/// One instance.
pub(super) struct Instance {
    connections: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    clock: Clock,
}

#[derive(Default)]
struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when no login is tried, by the monotonic clock.
    open_until: Duration,
}

/// An instance's share of the connections: all of them if it is the only instance, else half.
const fn share(budget: usize, instances: usize) -> usize {
    if instances <= 1 || budget <= 1 { budget } else { budget / 2 }
}

impl ConnectedInstances {
    pub(super) fn new(budget: usize, clock: Clock) -> Self {
        Self { budget, clock, instances: Mutex::default() }
    }

    /// An instance by its name.
    pub(super) fn get(&self, name: &str) -> Arc<Instance> {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = instances.get(name) {
            return Arc::clone(instance);
        }
        let now = instances.len() + 1;
        if now == 2 {
            // The first one had everything; what it uses beyond its share is taken away when it is returned.
            for first in instances.values() {
                let surplus = self.budget - share(self.budget, now);
                let connections = Arc::clone(&first.connections);
                let missing = surplus - connections.forget_permits(surplus);
                if let Ok(missing @ 1..) = u32::try_from(missing) {
                    tokio::spawn(async move {
                        if let Ok(permits) = connections.acquire_many(missing).await {
                            permits.forget();
                        }
                    });
                }
            }
        }
        let connections = Arc::new(Semaphore::new(share(self.budget, now)));
        let instance = Arc::new(Instance { connections, breaker: Mutex::default(), clock: self.clock.clone() });
        instances.insert(name.to_owned(), Arc::clone(&instance));
        instance
    }
}

impl Instance {
    /// One of its connections, within a timeout.
    ///
    /// # Errors
    /// When all are in use, or the breaker is open.
    pub(super) async fn connection(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, DatabaseError> {
        if self.is_open() {
            return Err(DatabaseError::Paused);
        }
        let permit = tokio::time::timeout(timeout, Arc::clone(&self.connections).acquire_owned());
        permit.await.map_err(|_| DatabaseError::Busy)?.map_err(|_| DatabaseError::Abandoned)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self) -> bool {
        let mut breaker = self.breaker();
        let now = self.clock.monotonic();
        if breaker.failures < FAILURES {
            return false;
        }
        if now < breaker.open_until {
            return true;
        }
        // This caller probes; the others wait for its result, or for the next pause to end.
        breaker.open_until = now + pause(breaker.failures);
        false
    }

    /// Records that it answered.
    pub(super) fn note_success(&self) {
        *self.breaker() = Breaker::default();
    }

    /// Records that it can't be reached, or doesn't answer.
    pub(super) fn note_failure(&self) {
        let mut breaker = self.breaker();
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.open_until = self.clock.monotonic() + pause(breaker.failures);
    }
}

/// How long an instance is left alone after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(FAILURES).min(10);
    PAUSE.0.saturating_mul(1 << doublings).min(PAUSE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn an_instance_that_fails_is_left_alone_and_probed() {
        let instances = ConnectedInstances::new(4, Clock::system());
        let instance = instances.get("main");
        for _ in 0..FAILURES {
            assert!(instance.connection(NOW).await.is_ok());
            instance.note_failure();
        }
        assert!(matches!(instance.connection(NOW).await, Err(DatabaseError::Paused)));
        assert!(instances.get("other").connection(NOW).await.is_ok(), "another instance doesn't notice");
        tokio::time::sleep(PAUSE.0 * 2).await;
        assert!(instance.connection(NOW).await.is_ok(), "one probes");
        assert!(instance.connection(NOW).await.is_err(), "the others wait for its result");
        instance.note_success();
        assert!(instance.connection(NOW).await.is_ok());
        assert_eq!((pause(FAILURES), pause(FAILURES + 1), pause(100)), (PAUSE.0, PAUSE.0 * 2, PAUSE.1));
    }

    #[tokio::test]
    async fn one_instance_has_all_connections_and_each_of_several_half() {
        let instances = ConnectedInstances::new(4, Clock::system());
        let main = instances.get("main");
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(main.connection(NOW).await.unwrap());
        }
        let other = instances.get("other");
        let _two = (other.connection(NOW).await.unwrap(), other.connection(NOW).await.unwrap());
        assert!(matches!(other.connection(NOW).await, Err(DatabaseError::Busy)));
        tokio::task::yield_now().await;
        held.clear();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _two = (main.connection(NOW).await.unwrap(), main.connection(NOW).await.unwrap());
        assert!(matches!(main.connection(NOW).await, Err(DatabaseError::Busy)));
    }
}
