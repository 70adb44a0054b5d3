//! Time as it is stored.

use jiff::Timestamp;

/// A time without its fraction of a second. Conditions and keyrings store whole seconds, so a stored value equals its
/// source only without the fraction.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
