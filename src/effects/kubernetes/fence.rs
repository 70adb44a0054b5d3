//! The fence of Kubernetes effects: no write starts unless our Lease outlasts the longest time the write may take.

use super::error::REQUEST_TIMEOUT;
use crate::{clock::Clock, domain::class::ErrorClass, effects::error::EffectError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What this process knows of its leadership. Clones share it.
#[derive(Clone, Debug)]
pub struct LeaseFence {
    clock: Clock,
    /// Monotonic time until which the Lease is surely ours, in milliseconds; 0 before and after leadership.
    until: Arc<AtomicU64>,
    epoch: Arc<AtomicI32>,
}

impl LeaseFence {
    /// A fence that lets nothing through yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, until: Arc::default(), epoch: Arc::default() }
    }

    /// The Lease is ours until this monotonic time, counted from before the request that renewed it was sent.
    pub fn extend(&self, until: Duration) {
        self.until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Leadership is given up.
    pub fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Sets the epoch of this leadership.
    pub fn set_epoch(&self, epoch: i32) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// The epoch of this leadership.
    pub fn epoch(&self) -> i32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The time, by the clock that leadership is measured with.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Whether the Lease is ours now.
    pub fn is_leader(&self) -> bool {
        self.clock.monotonic() < Duration::from_millis(self.until.load(Ordering::SeqCst))
    }

    /// Checks that a write may start.
    ///
    /// # Errors
    /// When the Lease could end before the write does.
    pub fn check(&self) -> Result<(), EffectError> {
        let until = Duration::from_millis(self.until.load(Ordering::SeqCst));
        if self.clock.monotonic() + REQUEST_TIMEOUT < until {
            return Ok(());
        }
        Err(EffectError::new(ErrorClass::Transient, "the leader Lease ends too soon to start a write"))
    }
}
