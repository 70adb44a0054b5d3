//! An index of the Tenants that claim each tenant id, updated with the cache of Tenants.

use super::cache::Key;
use crate::domain::{
    ident::{ObjectId, TenantId},
    resolve::{Claimant, resolve_claim},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The index. Clones share it.
#[derive(Clone, Default)]
pub struct TenantIdClaims(Arc<Mutex<Index>>);

/// What one Tenant claims.
pub(crate) struct TenantIdClaim {
    pub(crate) id: TenantId,
    pub(crate) claimant: Claimant,
}

#[derive(Default)]
struct Index {
    /// Rarely more than one per id. Not a `BTreeMap`: its smallest node has room for eleven, 2 kB per Tenant.
    by_id: HashMap<TenantId, Vec<Claimant>>,
    by_object: HashMap<Key, TenantId>,
}

fn key(claimant: &Claimant) -> Key {
    Key::new(&claimant.object.namespace, &claimant.object.name)
}

impl TenantIdClaims {
    /// Sets what a Tenant claims; `None`: it is deleted, or its claim is invalid.
    pub(crate) fn set(&self, object: &Key, claim: Option<TenantIdClaim>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = index.by_object.remove(object)
            && let Some(claimants) = index.by_id.get_mut(&old)
        {
            claimants.retain(|claimant| key(claimant) != *object);
            if claimants.is_empty() {
                index.by_id.remove(&old);
            }
        }
        if let Some(TenantIdClaim { id, claimant }) = claim {
            index.by_object.insert(object.clone(), id.clone());
            let claimants = index.by_id.entry(id).or_insert_with(|| Vec::with_capacity(1));
            claimants.push(claimant);
        }
    }

    /// The other Tenant that owns the id, if `object` does not own it.
    pub(crate) fn rival(&self, id: &TenantId, object: &ObjectId) -> Option<ObjectId> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let claimants = index.by_id.get(id)?.iter().cloned();
        resolve_claim(claimants).map(|c| c.object).filter(|winner| winner != object)
    }

    pub(crate) fn claimants(&self, id: &TenantId) -> Vec<Key> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.by_id.get(id).map(|claimants| claimants.iter().map(key).collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ident::Uid;

    fn tenant(name: &str, second: i64) -> (Key, Claimant) {
        let object = ObjectId { namespace: "ns".into(), name: name.into(), uid: Uid(format!("uid-{name}")) };
        let created = Some(jiff::Timestamp::from_second(second).unwrap());
        (Key::new("ns", name), Claimant { object, created, deleting: false })
    }

    #[test]
    fn an_id_belongs_to_the_oldest_tenant_until_that_claims_another_id() {
        let claims = TenantIdClaims::default();
        let id = |text: &str| TenantId::parse(text).unwrap();
        let claim = |text: &str, by: &Claimant| Some(TenantIdClaim { id: id(text), claimant: by.clone() });
        let ((old_key, old), (new_key, new)) = (tenant("old", 1), tenant("new", 2));
        claims.set(&new_key, claim("acme", &new));
        assert_eq!(claims.rival(&id("acme"), &new.object), None);
        claims.set(&old_key, claim("acme", &old));
        claims.set(&old_key, claim("acme", &old));
        assert_eq!(claims.rival(&id("acme"), &new.object), Some(old.object.clone()));
        assert_eq!(claims.claimants(&id("acme")), [new_key.clone(), old_key.clone()], "each once");

        claims.set(&old_key, claim("globex", &old));
        assert_eq!(claims.rival(&id("acme"), &new.object), None);
        claims.set(&new_key, None);
        assert_eq!(claims.claimants(&id("acme")), []);
        assert_eq!(claims.claimants(&id("globex")), [old_key]);
    }
}
