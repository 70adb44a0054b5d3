//! The delay before the next reconcile, from the outcome alone. Pure; the random number is an argument.

use super::outcome::ReconcileOutcome;
use crate::domain::class::ErrorClass;
use std::time::Duration;

/// Delay after the first transient failure. It doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Maximum delay between attempts.
const LONGEST: Duration = Duration::from_secs(300);
/// Delay of an object that waits. An event usually enqueues it earlier.
const WAITING: Duration = Duration::from_secs(30);

/// When an object is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// After this time, as a retry.
    Retry(Duration),
    /// At the next periodic reconcile.
    Periodic,
    /// Only when the object changes.
    Never,
}

/// Decides from the outcome. `attempts` counts consecutive transient failures and denials, including this one; `random` is from
/// 0 to 1.
pub(crate) fn next(outcome: &ReconcileOutcome, attempts: u32, random: f64) -> Next {
    if outcome.gone {
        return Next::Never;
    }
    match outcome.error_class {
        None => Next::Periodic,
        // The next change of the object enqueues it; a periodic reconcile would find the same violations.
        Some(ErrorClass::Invalid) => Next::Never,
        Some(ErrorClass::Waiting) => Next::Retry(jitter(WAITING, random)),
        // A restarted API server denies all requests until it has read the roles.
        Some(ErrorClass::Transient | ErrorClass::Denied) => Next::Retry(jitter(backoff(attempts), random)),
        Some(ErrorClass::Conflict | ErrorClass::Bug) => Next::Retry(jitter(LONGEST, random)),
    }
}

/// The delay after a number of attempts: 1 s, 2 s, 4 s … 5 min.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

/// Spreads a delay by ±20 %, so that simultaneous failures are not retried simultaneously.
pub(crate) fn jitter(delay: Duration, random: f64) -> Duration {
    delay.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(error_class: Option<ErrorClass>, attempts: u32) -> Next {
        next(&ReconcileOutcome { error_class, ..ReconcileOutcome::default() }, attempts, 0.5)
    }

    #[test]
    fn transient_failures_and_denials_are_retried_with_growing_delays() {
        for class in [ErrorClass::Transient, ErrorClass::Denied] {
            let delays: Vec<_> = [1, 2, 3, 9, 10, 60].map(|n| after(Some(class), n)).into();
            let seconds = [1, 2, 4, 256, 300, 300].map(|s| Next::Retry(Duration::from_secs(s)));
            assert_eq!(delays, seconds);
        }
    }

    #[test]
    fn an_invalid_spec_is_not_retried() {
        assert_eq!(after(Some(ErrorClass::Invalid), 1), Next::Never);
        assert_eq!(after(None, 0), Next::Periodic);
    }
}
