//! The Tenants that may be migrated now. The rollout assigns the slots; each reconcile asks whether its Tenant has one.

use crate::domain::ident::Uid;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The assigned slots. Clones share them.
#[derive(Clone, Default)]
pub struct RolloutSlots {
    admitted: Arc<Mutex<HashSet<Uid>>>,
    failures: Arc<AtomicU64>,
}

impl RolloutSlots {
    fn admitted(&self) -> MutexGuard<'_, HashSet<Uid>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Assigns a slot to a Tenant.
    pub fn admit(&self, tenant: &Uid) {
        self.admitted().insert(tenant.clone());
    }

    /// Frees the slot of a Tenant.
    pub fn end(&self, tenant: &Uid) {
        self.admitted().remove(tenant);
    }

    /// Whether a Tenant has a slot.
    pub fn admits(&self, tenant: &Uid) -> bool {
        self.admitted().contains(tenant)
    }

    /// Records that a file failed.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of files that failed in this process.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
