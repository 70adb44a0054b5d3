//! A map with copies that share nearly everything: it is split into shards, and changing a copy copies one shard.
//!
//! The registry's snapshots are copies of such maps, so publishing one tenant's change costs the same at 10 tenants and
//! at 10,000.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

/// At 10,000 entries a shard holds about 40.
const SHARDS: usize = 256;

/// A map that is cheap to clone and cheap to change after a clone.
#[derive(Clone, Debug)]
pub struct Shards<K, V> {
    hasher: RandomState,
    shards: Vec<Arc<HashMap<K, V>>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self { hasher: RandomState::new(), shards: vec![empty; SHARDS], len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below the number of shards")]
    fn at<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        (self.hasher.hash_one(key) % SHARDS as u64) as usize
    }

    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(self.at(key))?.get(key)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        let at = self.at(&key);
        if let Some(shard) = self.shards.get_mut(at)
            && Arc::make_mut(shard).insert(key, value).is_none()
        {
            self.len += 1;
        }
    }

    /// Removes a key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let at = self.at(key);
        if let Some(shard) = self.shards.get_mut(at)
            && shard.contains_key(key)
        {
            Arc::make_mut(shard).remove(key);
            self.len -= 1;
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_saw() {
        let mut map = Shards::default();
        for n in 0..1000 {
            map.insert(n, n);
        }
        let before = map.clone();
        map.insert(7, 70);
        map.remove(&8);
        assert_eq!((before.get(&7), before.get(&8), before.len()), (Some(&7), Some(&8), 1000));
        assert_eq!((map.get(&7), map.get(&8), map.len()), (Some(&70), None, 999));
        let shared = before.shards.iter().zip(&map.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 2);
    }
}
