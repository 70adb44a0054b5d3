//! A cache of objects in the API server. A watch and the replies to our own writes fill it, so that a reconcile sees what
//! the previous one wrote. The newest version of an object wins, whichever source it came from.

use crate::domain::ident::Version;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object with a `resourceVersion`.
pub trait Versioned: Send + Sync + 'static {
    /// `metadata.resourceVersion` as a number.
    fn version(&self) -> Version;
}

/// One change of the cache.
#[derive(Debug)]
pub struct CacheChange<V> {
    pub(crate) before: Option<Arc<V>>,
    pub(crate) after: Option<Arc<V>>,
    /// The version of the change; for a deletion it is newer than any version of the object.
    pub(crate) version: Version,
}

/// How many deletions are remembered: far more than happen during one of our own requests, so that a late reply doesn't
/// restore an object that the watch has already reported as deleted.
const MAX_TOMBSTONES: usize = 1024;

#[derive(Debug)]
struct Content<V> {
    objects: BTreeMap<Key, Arc<V>>,
    /// The last deleted keys with the version of the deletion; the oldest first.
    tombstones: VecDeque<(Key, Version)>,
}

impl<V> Content<V> {
    fn deleted_at(&self, key: &Key) -> Option<Version> {
        self.tombstones.iter().rev().find(|(deleted, _)| deleted == key).map(|(_, version)| *version)
    }
}

/// The cache. Clones share it.
#[derive(Debug)]
pub struct Cache<V>(Arc<RwLock<Content<V>>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Content { objects: BTreeMap::new(), tombstones: VecDeque::new() })))
    }
}

impl<V: Versioned> Cache<V> {
    fn read(&self) -> RwLockReadGuard<'_, Content<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.read().objects.get(key).cloned()
    }

    /// Every object, sorted by namespace and name.
    pub(crate) fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.read().objects.iter().map(|(k, v)| (k.clone(), Arc::clone(v))).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Stores an object unless the same or a newer version is cached or was deleted. Returns the change, if any.
    pub(crate) fn apply(&self, key: Key, value: V) -> Option<CacheChange<V>> {
        let mut content = self.write();
        let before = content.objects.get(&key).cloned();
        let known = before.as_ref().map(|old| old.version()).or_else(|| content.deleted_at(&key));
        if known.is_some_and(|known| known >= value.version()) {
            return None;
        }
        let version = value.version();
        let after = Arc::new(value);
        content.objects.insert(key, Arc::clone(&after));
        Some(CacheChange { before, after: Some(after), version })
    }

    /// Removes an object that was deleted at `version`, unless a newer version is cached.
    pub(crate) fn remove(&self, key: &Key, version: Version) -> Option<CacheChange<V>> {
        let mut content = self.write();
        if content.objects.get(key).is_none_or(|old| old.version() > version) {
            return None;
        }
        let before = content.objects.remove(key)?;
        if content.tombstones.len() == MAX_TOMBSTONES {
            content.tombstones.pop_front();
        }
        content.tombstones.push_back((key.clone(), version));
        Some(CacheChange { before: Some(before), after: None, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Versioned for u64 {
        fn version(&self) -> Version {
            Version(*self)
        }
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let cache = Cache::<u64>::default();
        let key = || Key::new("ns", "a");
        assert!(cache.apply(key(), 5).is_some(), "our own write");
        assert!(cache.apply(key(), 4).is_none(), "the watch is behind");
        assert!(cache.apply(key(), 5).is_none(), "the watch has caught up");
        assert!(cache.remove(&key(), Version(4)).is_none(), "a deletion from before it was recreated");
        assert_eq!(cache.get(&key()).as_deref(), Some(&5));
        assert!(cache.remove(&key(), Version(6)).is_some());
        assert!(cache.len() == 0);
    }

    #[test]
    fn a_reply_that_arrives_after_the_deletion_of_its_object_restores_nothing() {
        let cache = Cache::<u64>::default();
        let key = || Key::new("ns", "a");
        cache.apply(key(), 5);
        // Our write created version 6, it was deleted at 7, and the watch was faster than our reply.
        assert!(cache.remove(&key(), Version(7)).is_some());
        assert!(cache.apply(key(), 6).is_none(), "the late reply");
        assert!(cache.len() == 0);
        assert!(cache.apply(key(), 8).is_some(), "recreated");
        assert_eq!(cache.get(&key()).as_deref(), Some(&8));
    }

    #[test]
    fn the_number_of_remembered_deletions_is_bounded() {
        let cache = Cache::<u64>::default();
        for n in 0..3_000_u64 {
            let key = Key::new("ns", n.to_string());
            cache.apply(key.clone(), n);
            cache.remove(&key, Version(n));
        }
        assert_eq!(cache.read().tombstones.len(), MAX_TOMBSTONES);
    }
}
