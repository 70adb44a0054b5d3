//! The stage of the process, for /readyz.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// A stage of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessStage {
    /// It opens its ports.
    Starting,
    /// Another process leads.
    Standby,
    /// It leads and fills its caches.
    Syncing,
    /// It leads and reconciles.
    Leading,
}

/// The current stage. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct ProcessReadiness(Arc<AtomicU8>);

impl ProcessReadiness {
    /// Sets the stage.
    pub(crate) fn set(&self, stage: ProcessStage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// Whether the process is ready, and if not, why.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is = |stage: ProcessStage| self.0.load(Ordering::Relaxed) == stage as u8;
        if is(ProcessStage::Standby) || is(ProcessStage::Leading) {
            Ok(())
        } else if is(ProcessStage::Starting) {
            Err("starting".to_owned())
        } else {
            Err("filling the caches".to_owned())
        }
    }
}
