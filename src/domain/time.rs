//! Time as it is kept.

use jiff::Timestamp;

/// Without the fraction: conditions and rings keep whole seconds, and what we compare with must be what comes back.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
