//! The shared side of the queue: who waits for what, and how what happened becomes the next look.

use super::{
    retry::{Next, jitter, next},
    waiters::Waiters,
    work_queue::{Priority, Queue, Target},
};
use crate::controller::reconcile::outcome::ReconcileOutcome;
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

/// How often an object that waits for the database is looked at although the database has not answered.
const RECHECK: Duration = Duration::from_secs(30);

/// The scheduler.
pub struct Scheduler {
    clock: Clock,
    resync: Duration,
    instances: Instances,
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue,
    waiters: Waiters,
    /// Transient failures in a row.
    attempts: HashMap<Target, u32>,
    /// Waiting for a database, without using up attempts: for this one, or for whichever comes back.
    parked: HashMap<Target, (Option<String>, Priority)>,
    /// State of the cheap generator that spreads delays; nothing secret comes from it.
    chance: u64,
}

impl State {
    /// The next number from 0 to 1 (xorshift64).
    fn chance(&mut self) -> f64 {
        let mut x = self.chance | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.chance = x;
        f64::from(u32::try_from(x >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

impl Scheduler {
    /// A scheduler. `seed` spreads the delays differently in each process.
    pub fn new(clock: Clock, resync: Duration, instances: Instances, seed: u64) -> Self {
        let state = State { chance: seed, ..State::default() };
        Self { clock, resync, instances, state: Mutex::new(state), bell: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants a look.
    pub fn push(&self, target: Target, priority: Priority) {
        self.state().queue.push(target, priority);
        self.bell.notify_one();
    }

    /// Takes the next object, waiting for one if need be.
    pub async fn take(&self) -> Target {
        loop {
            let bell = self.bell.notified();
            let alarm = {
                let mut state = self.state();
                let now = self.clock.monotonic();
                if let Some(target) = state.queue.pop(now) {
                    // One bell may have told of several objects.
                    if state.queue.waiting() > 0 {
                        self.bell.notify_one();
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
                        () = bell => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                None => bell.await,
            }
        }
    }

    /// The count of replica changes, to be taken before a pass.
    pub fn replica_changes(&self) -> u64 {
        self.state().waiters.changes()
    }

    /// The replicas changed. They are observed here, so that of two changes at once the later view stays.
    pub fn replicas_changed(&self, observe: impl FnOnce() -> Floors) {
        let mut state = self.state();
        for target in state.waiters.changed(observe()) {
            state.queue.push(target, Priority::Confirm);
        }
        self.bell.notify_one();
    }

    /// A database answered: whoever waited for it is looked at, the urgent first.
    pub fn database_answered(&self, instance: &str) {
        let mut state = self.state();
        let released = |_: &Target, (waits_for, _): &mut (Option<String>, Priority)| {
            waits_for.as_deref().is_none_or(|name| name == instance)
        };
        let parked: Vec<_> = state.parked.extract_if(released).collect();
        for (target, (_, priority)) in parked {
            state.queue.push(target, priority);
        }
        self.bell.notify_one();
    }

    /// A worker is done with an object: plans the next look. `priority` is what a look is worth once the database is back.
    pub fn settle(&self, target: &Target, outcome: &ReconcileOutcome, looked: u64, priority: Priority) {
        let mut state = self.state();
        let now = self.clock.monotonic();
        if outcome.gone {
            state.attempts.remove(target);
        } else {
            self.plan_next(&mut state, target, outcome, looked, priority, now);
        }
        state.queue.finish(target);
        self.bell.notify_one();
    }

    fn plan_next(
        &self,
        state: &mut State,
        target: &Target,
        outcome: &ReconcileOutcome,
        looked: u64,
        priority: Priority,
        now: Duration,
    ) {
        if let Some(version) = outcome.awaits
            && !state.waiters.wait(target.clone(), version, looked)
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
        let waits_for = outcome.database.as_ref().filter(|instance| self.is_out(instance.as_deref()));
        if let (Some(instance), Some(_)) = (waits_for, outcome.error_class) {
            state.parked.insert(target.clone(), (instance.clone(), priority));
            // The gate may have changed between the pass and now; such a look asks the database nothing while it is out.
            let pause = jitter(RECHECK, state.chance());
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
        let chance = state.chance();
        match next(outcome, attempts, chance) {
            Next::Retry(pause) => state.queue.push_at(target.clone(), Priority::Retry, now + pause),
            Next::Periodic => {
                // ±10 %: half of the usual jitter.
                let pause = (self.resync + jitter(self.resync, chance)) / 2;
                state.queue.push_at(target.clone(), Priority::Periodic, now + pause);
            }
            Next::Never => {}
        }
    }

    /// Whether a database can't be asked: this one, or any.
    fn is_out(&self, instance: Option<&str>) -> bool {
        let mut breakers = self.instances.breakers().iter();
        breakers.any(|breaker| instance.is_none_or(|name| breaker.name() == name) && !breaker.is_open())
    }

    /// An object changed: its earlier failures no longer count.
    pub fn forgive(&self, target: &Target) {
        self.state().attempts.remove(target);
    }

    /// A delay spread by ±20 %.
    pub fn spread(&self, delay: Duration) -> Duration {
        jitter(delay, self.state().chance())
    }

    /// How many objects wait for a worker.
    pub fn waiting(&self) -> usize {
        self.state().queue.waiting()
    }
}
