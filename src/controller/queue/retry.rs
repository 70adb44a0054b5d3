//! When to look again, from the outcome alone. Pure; chance is an argument.

use crate::controller::reconcile::outcome::ReconcileOutcome;
use crate::domain::class::ErrorClass;
use std::time::Duration;

/// First delay after a transient failure; doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Longest delay between attempts.
const LONGEST: Duration = Duration::from_secs(300);
/// Delay where something else has to happen, and an event normally tells when it has.
const WAITING: Duration = Duration::from_secs(30);

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this time, as a retry.
    Retry(Duration),
    /// At the next periodic look.
    Periodic,
    /// Only when the object changes.
    Never,
}

/// Decides. `attempts` counts the transient and denied ones in a row, this one included; `chance` is from 0 to 1.
pub fn next(outcome: &ReconcileOutcome, attempts: u32, chance: f64) -> Next {
    if outcome.gone {
        return Next::Never;
    }
    match outcome.error_class {
        None => Next::Periodic,
        // The object's next change wakes it; a periodic look would only find the same words.
        Some(ErrorClass::Invalid) => Next::Never,
        Some(ErrorClass::Waiting) => Next::Retry(jitter(WAITING, chance)),
        // An API server that was restarted denies everything until it has read the roles, which takes it a moment.
        Some(ErrorClass::Transient | ErrorClass::Denied) => Next::Retry(jitter(backoff(attempts), chance)),
        Some(ErrorClass::Conflict | ErrorClass::Bug) => Next::Retry(jitter(LONGEST, chance)),
    }
}

/// 1 s, 2 s, 4 s … 5 min.
pub fn backoff(attempts: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

/// Spreads a delay by ±20 %, so that what failed together is not tried again together.
pub fn jitter(delay: Duration, chance: f64) -> Duration {
    delay.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(error_class: Option<ErrorClass>, attempts: u32) -> Next {
        next(&ReconcileOutcome { error_class, ..ReconcileOutcome::default() }, attempts, 0.5)
    }

    #[test]
    fn transient_failures_and_denials_are_tried_again_ever_more_slowly() {
        for class in [ErrorClass::Transient, ErrorClass::Denied] {
            let delays: Vec<_> = [1, 2, 3, 9, 10, 60].map(|n| after(Some(class), n)).into();
            let seconds = [1, 2, 4, 256, 300, 300].map(|s| Next::Retry(Duration::from_secs(s)));
            assert_eq!(delays, seconds);
        }
    }

    #[test]
    fn a_wrong_spec_is_not_tried_again() {
        assert_eq!(after(Some(ErrorClass::Invalid), 1), Next::Never);
        assert_eq!(after(None, 0), Next::Periodic);
    }
}
