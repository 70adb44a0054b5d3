//! Whose turn it is in an upgrade of the fleet: given by the one who watches over it, asked by each pass.

use crate::domain::ident::Uid;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The turns. Clones share them.
#[derive(Clone, Default)]
pub struct RolloutSlots {
    admitted: Arc<Mutex<HashSet<Uid>>>,
    failures: Arc<AtomicU64>,
}

impl RolloutSlots {
    fn admitted(&self) -> MutexGuard<'_, HashSet<Uid>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a Tenant its turn.
    pub fn admit(&self, tenant: &Uid) {
        self.admitted().insert(tenant.clone());
    }

    /// Takes it back, or notes that it was taken.
    pub fn end(&self, tenant: &Uid) {
        self.admitted().remove(tenant);
    }

    /// Whether it is a Tenant's turn.
    pub fn admits(&self, tenant: &Uid) -> bool {
        self.admitted().contains(tenant)
    }

    /// Notes that a file failed.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How many files failed in this process.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
