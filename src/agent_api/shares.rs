//! What all tenants share, such as slots for chats or bytes in memory: bounded as a whole, and for each tenant by a part.
//!
//! Nobody waits for a share: who waited while holding another one could wait for ever.

use super::{
    metrics::ShareUse,
    problem::{Code, Problem},
};
use crate::domain::ident::Incarnation;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Something that all tenants share.
pub struct Shares {
    total: usize,
    per_tenant: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// By tenant; only those that hold something.
    tenants: HashMap<Incarnation, usize>,
}

/// A tenant's share. Dropped, it is returned.
pub struct Share {
    shares: Arc<Shares>,
    tenant: Incarnation,
    amount: usize,
}

/// Why there is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The tenant holds as much as it may.
    Tenant,
    /// All tenants together do.
    Process,
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(match exhausted {
            Exhausted::Tenant => Code::TenantBusy,
            Exhausted::Process => Code::Busy,
        })
    }
}

/// A tenant's part of a total, which is at least 1.
pub fn part_of(total: usize, percent: u64) -> usize {
    let percent = usize::try_from(percent.min(100)).unwrap_or(100);
    total.saturating_mul(percent).div_ceil(100).max(1)
}

impl Shares {
    /// `total` of something, of which each tenant may have so much.
    pub fn new(total: usize, per_tenant: usize) -> Arc<Self> {
        Arc::new(Self { total, per_tenant, taken: Mutex::default() })
    }

    /// Takes a share.
    ///
    /// # Errors
    /// When too little is left.
    pub fn take(self: &Arc<Self>, tenant: Incarnation, amount: usize) -> Result<Share, Exhausted> {
        let mut share = Share { shares: Arc::clone(self), tenant, amount: 0 };
        share.grow(amount)?;
        Ok(share)
    }

    /// How much is taken, and of how much.
    pub fn usage(&self) -> ShareUse {
        ShareUse { taken: self.taken().all, total: self.total }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// How much it is.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more; on failure the share stays as it is.
    ///
    /// # Errors
    /// When too little is left.
    pub fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        let mut taken = self.shares.taken();
        let tenant = taken.tenants.get(&self.tenant).copied().unwrap_or_default();
        if tenant.saturating_add(more) > self.shares.per_tenant {
            return Err(Exhausted::Tenant);
        }
        if taken.all.saturating_add(more) > self.shares.total {
            return Err(Exhausted::Process);
        }
        taken.all += more;
        if tenant + more > 0 {
            taken.tenants.insert(self.tenant, tenant + more);
        }
        self.amount += more;
        Ok(())
    }

    /// Returns what exceeds `amount`.
    pub fn shrink_to(&mut self, amount: usize) {
        let less = self.amount.saturating_sub(amount);
        let mut taken = self.shares.taken();
        taken.all = taken.all.saturating_sub(less);
        let left = taken.tenants.get(&self.tenant).copied().unwrap_or_default().saturating_sub(less);
        if left == 0 {
            taken.tenants.remove(&self.tenant);
        } else {
            taken.tenants.insert(self.tenant, left);
        }
        drop(taken);
        self.amount -= less;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn tenant(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    #[test]
    fn a_tenant_has_at_most_its_part_and_all_together_the_total() {
        let shares = Shares::new(10, 4);
        let mut first = shares.take(tenant(1), 3).unwrap();
        assert_eq!(shares.take(tenant(1), 2).err(), Some(Exhausted::Tenant));
        assert_eq!(first.grow(2), Err(Exhausted::Tenant));
        first.grow(1).unwrap();
        let second = shares.take(tenant(2), 4).unwrap();
        assert_eq!(shares.take(tenant(3), 3).err(), Some(Exhausted::Process));
        let third = shares.take(tenant(3), 2).unwrap();
        assert_eq!(shares.usage(), ShareUse { taken: 10, total: 10 });
        first.shrink_to(1);
        assert_eq!((first.amount(), shares.usage()), (1, ShareUse { taken: 7, total: 10 }));
        drop((first, second, third));
        assert_eq!(shares.usage(), ShareUse { taken: 0, total: 10 });
        assert!(shares.taken().tenants.is_empty(), "tenants that hold nothing are forgotten");
    }

    #[test]
    fn a_part_is_never_nothing() {
        assert_eq!((part_of(16, 12), part_of(512, 12), part_of(1, 12), part_of(8, 50)), (2, 62, 1, 4));
    }
}
