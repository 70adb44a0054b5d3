//! Wall time and monotonic time as one type, so that tests can set both.

use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Monotonic time starts here: at the first use of a clock in the process.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A source of time. Clones of a manual clock share its time.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Debug)]
struct Manual {
    wall: Timestamp,
    monotonic: Duration,
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        LazyLock::force(&START);
        Self(ClockSource::System)
    }

    /// A clock that changes only by [`Self::advance`].
    pub fn manual(wall: Timestamp) -> Self {
        Self(ClockSource::Manual(Arc::new(Mutex::new(Manual { wall, monotonic: Duration::ZERO }))))
    }

    /// Wall time. It may jump, also backwards: for comparison with timestamps of other processes.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            ClockSource::System => Timestamp::now(),
            ClockSource::Manual(manual) => manual.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    /// Time since the first use of a clock in the process. Never jumps: for measuring durations.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            ClockSource::System => START.elapsed(),
            ClockSource::Manual(manual) => manual.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    /// Advances wall and monotonic time of a manual clock; no effect on the machine's clocks.
    pub fn advance(&self, by: Duration) {
        if let ClockSource::Manual(manual) = &self.0 {
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
    fn clones_of_a_manual_clock_share_its_time() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let other = clock.clone();
        other.advance(Duration::from_secs(90));
        assert_eq!(clock.now().as_second(), 90);
        assert_eq!(clock.monotonic(), Duration::from_secs(90));
    }

    #[test]
    fn monotonic_time_never_goes_back() {
        let clock = Clock::system();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
