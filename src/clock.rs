//! Wall time and monotonic time behind one small type, so that a test can set both.

use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Monotonic time counts from here: the first time a process asks.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the time comes from. Clones of one manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Debug)]
struct Manual {
    wall: Timestamp,
    monotonic: Duration,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        LazyLock::force(&START);
        Self(Source::System)
    }

    /// A clock that stands still until it is told to move.
    pub fn manual(wall: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(Manual { wall, monotonic: Duration::ZERO }))))
    }

    /// Time of day. May jump, also backwards: for comparing with what others wrote down.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(manual) => manual.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    /// Time since the process first asked. Never jumps: for measuring how long something took.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System => START.elapsed(),
            Source::Manual(manual) => manual.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    /// Moves a manual clock forward, wall and monotonic time alike; the machine's clocks don't obey.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            let mut manual = manual.lock().unwrap_or_else(PoisonError::into_inner);
            manual.monotonic += by;
            if let Ok(by) = SignedDuration::try_from(by)
                && let Ok(wall) = manual.wall.checked_add(by)
            {
                manual.wall = wall;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let other = clock.clone();
        other.advance(Duration::from_secs(90));
        assert_eq!(clock.now().as_second(), 90);
        assert_eq!(clock.monotonic(), Duration::from_secs(90));
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let clock = Clock::system();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
