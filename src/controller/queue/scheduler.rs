//! The work queue, shared by watches and workers, with the objects that wait for a database or for an acknowledgement.

use super::outcome::ReconcileOutcome;
use super::{
    retry::{Next, jitter, next},
    waiters::Waiters,
    work_queue::{Priority, Queue, Target},
};
use crate::{
    clock::Clock,
    domain::class::ErrorClass,
    effects::{database::instances::Instances, kubernetes::replicas::Floors},
};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How often an object that waits for an unavailable database is reconciled.
const RECHECK: Duration = Duration::from_secs(30);

/// Decides when each object is reconciled.
pub(crate) struct Scheduler {
    clock: Clock,
    resync: Duration,
    instances: Instances,
    state: Mutex<SchedulerState>,
    /// Notified when an object is enqueued.
    enqueued: Notify,
}

#[derive(Default)]
struct SchedulerState {
    queue: Queue,
    waiters: Waiters,
    /// Consecutive transient failures.
    attempts: HashMap<Target, u32>,
    /// Objects that wait for a database, without using up attempts: for the named one, or for any.
    parked: HashMap<Target, (Option<String>, Priority)>,
    /// SchedulerState of the generator of random numbers that spread delays. Not for secrets.
    random: u64,
}

impl SchedulerState {
    /// The next random number from 0 to 1 (xorshift64).
    fn random(&mut self) -> f64 {
        let mut x = self.random | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        f64::from(u32::try_from(x >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

impl Scheduler {
    /// Creates a scheduler. `seed` spreads the delays differently in each process.
    pub(crate) fn new(clock: Clock, resync: Duration, instances: Instances, seed: u64) -> Self {
        let state = SchedulerState { random: seed, ..SchedulerState::default() };
        Self { clock, resync, instances, state: Mutex::new(state), enqueued: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, SchedulerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues an object.
    pub(crate) fn push(&self, target: Target, priority: Priority) {
        self.state().queue.push(target, priority);
        self.enqueued.notify_one();
    }

    /// Waits for the next object and takes it.
    pub(crate) async fn take(&self) -> Target {
        loop {
            let enqueued = self.enqueued.notified();
            let alarm = {
                let mut state = self.state();
                let now = self.clock.monotonic();
                if let Some(target) = state.queue.pop(now) {
                    // One notification may stand for several objects.
                    if state.queue.waiting() > 0 {
                        self.enqueued.notify_one();
                    }
                    state.waiters.forget(&target);
                    state.parked.remove(&target);
                    return target;
                }
                state.queue.next_alarm().map(|when| when.saturating_sub(now))
            };
            match alarm {
                Some(pause) => {
                    tokio::select! {
                        () = enqueued => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                None => enqueued.await,
            }
        }
    }

    /// The number of replica changes, which a worker reads before a reconcile.
    pub(crate) fn replica_changes(&self) -> u64 {
        self.state().waiters.changes()
    }

    /// Enqueues the objects that waited for an acknowledgement that has arrived. The replicas are observed under the lock, so that of two
    /// simultaneous changes the later view stays.
    pub(crate) fn replicas_changed(&self, observe: impl FnOnce() -> Floors) {
        let mut state = self.state();
        for target in state.waiters.changed(observe()) {
            state.queue.push(target, Priority::Confirm);
        }
        self.enqueued.notify_one();
    }

    /// Enqueues the objects that waited for a database, by priority.
    pub(crate) fn release_parked(&self, instance: &str) {
        let mut state = self.state();
        let released = |_: &Target, (waits_for, _): &mut (Option<String>, Priority)| {
            waits_for.as_deref().is_none_or(|name| name == instance)
        };
        let parked: Vec<_> = state.parked.extract_if(released).collect();
        for (target, (_, priority)) in parked {
            state.queue.push(target, priority);
        }
        self.enqueued.notify_one();
    }

    /// Records that a worker has finished an object, and schedules its next reconcile. `priority` applies once an unavailable
    /// database is back. `replica_changes` is the number that was read before the reconcile.
    pub(crate) fn settle(&self, target: &Target, outcome: &ReconcileOutcome, replica_changes: u64, priority: Priority) {
        let mut state = self.state();
        let now = self.clock.monotonic();
        if outcome.gone {
            state.attempts.remove(target);
        } else {
            self.plan_next(&mut state, target, outcome, replica_changes, priority, now);
        }
        state.queue.finish(target);
        self.enqueued.notify_one();
    }

    fn plan_next(
        &self,
        state: &mut SchedulerState,
        target: &Target,
        outcome: &ReconcileOutcome,
        replica_changes: u64,
        priority: Priority,
        now: Duration,
    ) {
        if let Some(version) = outcome.awaits
            && !state.waiters.wait(target.clone(), version, replica_changes)
        {
            state.queue.push(target.clone(), Priority::Confirm);
        }
        if let Some(wake_at) = outcome.wake_at {
            let pause = Duration::try_from(wake_at.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
            if outcome.error_class.is_none() {
                state.queue.push_at(target.clone(), Priority::Confirm, now + pause);
            }
        }
        let counted = matches!(outcome.error_class, Some(ErrorClass::Transient | ErrorClass::Denied));
        let waits_for = outcome.database.as_ref().filter(|instance| self.is_unavailable(instance.as_deref()));
        if let (Some(instance), Some(_)) = (waits_for, outcome.error_class) {
            state.parked.insert(target.clone(), (instance.clone(), priority));
            // The circuit breaker may have closed since the reconcile. While it is open, a reconcile sends nothing to the
            // database.
            let pause = jitter(RECHECK, state.random());
            state.queue.push_at(target.clone(), Priority::Retry, now + pause);
            return;
        }
        let attempts = if counted {
            let count = state.attempts.entry(target.clone()).or_default();
            *count = count.saturating_add(1);
            *count
        } else {
            state.attempts.remove(target);
            0
        };
        let random = state.random();
        match next(outcome, attempts, random) {
            Next::Retry(pause) => state.queue.push_at(target.clone(), Priority::Retry, now + pause),
            Next::Periodic => {
                // ±10 %: half of the usual jitter.
                let pause = (self.resync + jitter(self.resync, random)) / 2;
                state.queue.push_at(target.clone(), Priority::Periodic, now + pause);
            }
            Next::Never => {}
        }
    }

    /// Whether a database is unavailable: the named one, or any.
    fn is_unavailable(&self, instance: Option<&str>) -> bool {
        let mut breakers = self.instances.breakers().iter();
        breakers.any(|breaker| instance.is_none_or(|name| breaker.name() == name) && !breaker.is_closed())
    }

    /// Resets the failures of an object after a change.
    pub(crate) fn reset_attempts(&self, target: &Target) {
        self.state().attempts.remove(target);
    }

    /// A delay spread by ±20 %.
    pub(crate) fn spread(&self, delay: Duration) -> Duration {
        jitter(delay, self.state().random())
    }

    /// Number of objects that wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.state().queue.waiting()
    }
}
