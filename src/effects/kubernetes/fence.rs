//! The fence of writes to Kubernetes: no write starts unless our Lease is valid for longer than the write may take.

use super::error::REQUEST_TIMEOUT;
use crate::{clock::Clock, domain::class::ErrorClass, effects::error::EffectError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What this process knows about its leadership. Clones share it.
#[derive(Clone, Debug)]
pub struct LeaseFence {
    clock: Clock,
    /// Monotonic time until which we hold the Lease, in milliseconds; 0 before and after leadership.
    until: Arc<AtomicU64>,
    epoch: Arc<AtomicI32>,
}

impl LeaseFence {
    /// A closed fence.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, until: Arc::default(), epoch: Arc::default() }
    }

    /// We hold the Lease until this monotonic time, counted from before the renewal request was sent.
    pub(crate) fn extend(&self, until: Duration) {
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Ends leadership.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    pub(crate) fn set_epoch(&self, epoch: i32) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// The epoch of this leadership.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The time of the clock that measures leadership.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Whether we hold the Lease now.
    pub(crate) fn is_leader(&self) -> bool {
        self.clock.monotonic() < Duration::from_millis(self.until.load(Ordering::SeqCst))
    }

    /// Checks that a write may start.
    ///
    /// # Errors
    /// When the Lease could end before the write does.
    pub(crate) fn check(&self) -> Result<(), EffectError> {
        let until = Duration::from_millis(self.until.load(Ordering::SeqCst));
        if self.clock.monotonic() + REQUEST_TIMEOUT < until {
            return Ok(());
        }
        Err(EffectError::new(ErrorClass::Transient, "the leader Lease ends too soon to start a write"))
    }
}
