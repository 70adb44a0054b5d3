//! Which Tenants claim which tenant id, kept beside the cache of Tenants.

use super::cache::Key;
use crate::domain::{
    ident::{ObjectId, TenantId},
    resolve::{Claimant, resolve_claim},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// The claims. Clones share them.
#[derive(Clone, Default)]
pub struct Claims(Arc<Mutex<Index>>);

#[derive(Default)]
struct Index {
    by_id: HashMap<TenantId, BTreeMap<Key, Claimant>>,
    by_object: HashMap<Key, TenantId>,
}

impl Claims {
    /// Takes in what a Tenant claims now; `None`: it is gone, or claims nothing valid.
    pub fn set(&self, key: &Key, claim: Option<(TenantId, Claimant)>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = index.by_object.remove(key)
            && let Some(claimants) = index.by_id.get_mut(&old)
        {
            claimants.remove(key);
            if claimants.is_empty() {
                index.by_id.remove(&old);
            }
        }
        if let Some((id, claimant)) = claim {
            index.by_object.insert(key.clone(), id.clone());
            index.by_id.entry(id).or_default().insert(key.clone(), claimant);
        }
    }

    /// The other Tenant to whom the id goes, if it does not go to `object`.
    pub fn rival(&self, id: &TenantId, object: &ObjectId) -> Option<ObjectId> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let claimants = index.by_id.get(id)?.values().cloned();
        resolve_claim(claimants).map(|c| c.object).filter(|winner| winner != object)
    }

    /// Every Tenant that claims an id.
    pub fn claimants(&self, id: &TenantId) -> Vec<Key> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.by_id.get(id).map(|c| c.keys().cloned().collect()).unwrap_or_default()
    }
}
