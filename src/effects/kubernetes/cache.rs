//! A map of what is in the API server: fed by a watch and by the replies to our own writes, so that a pass sees what
//! the pass before it wrote. The newest version of an object wins, wherever it came from.

use crate::domain::ident::Version;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Something that the API server numbers.
pub trait Versioned: Send + Sync + 'static {
    /// Its `resourceVersion`.
    fn version(&self) -> Version;
}

/// One change of a cache.
#[derive(Debug)]
pub struct Change<V> {
    /// What was there.
    pub before: Option<Arc<V>>,
    /// What is there.
    pub after: Option<Arc<V>>,
    /// The version at which this happened; for a deletion later than any version of the object.
    pub version: Version,
}

/// How many objects that went are remembered: far more than go while one of our own requests is under way, so that its
/// late reply doesn't bring back an object whose end the watch has told meanwhile.
const GRAVES: usize = 1024;

#[derive(Debug)]
struct Content<V> {
    objects: BTreeMap<Key, Arc<V>>,
    /// What went last, and at which version; the oldest first.
    graves: VecDeque<(Key, Version)>,
}

impl<V> Content<V> {
    fn went_at(&self, key: &Key) -> Option<Version> {
        self.graves.iter().rev().find(|(went, _)| went == key).map(|(_, version)| *version)
    }
}

/// The map. Clones share it.
#[derive(Debug)]
pub struct Cache<V>(Arc<RwLock<Content<V>>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Content { objects: BTreeMap::new(), graves: VecDeque::new() })))
    }
}

impl<V: Versioned> Cache<V> {
    fn read(&self) -> RwLockReadGuard<'_, Content<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Content<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.read().objects.get(key).cloned()
    }

    /// Every object, in the order of namespace and name.
    pub fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.read().objects.iter().map(|(k, v)| (k.clone(), Arc::clone(v))).collect()
    }

    /// Every key.
    pub fn keys(&self) -> Vec<Key> {
        self.read().objects.keys().cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().objects.is_empty()
    }

    /// Takes in an object unless the same or a newer version is there or has gone. Returns the change, if it is one.
    pub fn apply(&self, key: Key, value: V) -> Option<Change<V>> {
        let mut content = self.write();
        let before = content.objects.get(&key).cloned();
        let known = before.as_ref().map(|old| old.version()).or_else(|| content.went_at(&key));
        if known.is_some_and(|known| known >= value.version()) {
            return None;
        }
        let version = value.version();
        let after = Arc::new(value);
        content.objects.insert(key, Arc::clone(&after));
        Some(Change { before, after: Some(after), version })
    }

    /// Takes out an object unless a version newer than `version`, at which it was deleted, is there.
    pub fn remove(&self, key: &Key, version: Version) -> Option<Change<V>> {
        let mut content = self.write();
        if content.objects.get(key).is_none_or(|old| old.version() > version) {
            return None;
        }
        let before = content.objects.remove(key)?;
        if content.graves.len() == GRAVES {
            content.graves.pop_front();
        }
        content.graves.push_back((key.clone(), version));
        Some(Change { before: Some(before), after: None, version })
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
        assert!(cache.remove(&key(), Version(4)).is_none(), "a deletion from before it was made again");
        assert_eq!(cache.get(&key()).as_deref(), Some(&5));
        assert!(cache.remove(&key(), Version(6)).is_some());
        assert!(cache.is_empty());
    }

    #[test]
    fn a_reply_that_comes_after_the_end_of_its_object_brings_nothing_back() {
        let cache = Cache::<u64>::default();
        let key = || Key::new("ns", "a");
        cache.apply(key(), 5);
        // Our write made version 6; somebody deleted that at 7, and the watch was faster than our reply.
        assert!(cache.remove(&key(), Version(7)).is_some());
        assert!(cache.apply(key(), 6).is_none(), "the late reply");
        assert!(cache.is_empty());
        assert!(cache.apply(key(), 8).is_some(), "made again");
        assert_eq!(cache.get(&key()).as_deref(), Some(&8));
    }

    #[test]
    fn not_every_end_is_remembered() {
        let cache = Cache::<u64>::default();
        for n in 0..3_000_u64 {
            let key = Key::new("ns", n.to_string());
            cache.apply(key.clone(), n);
            cache.remove(&key, Version(n));
        }
        assert_eq!(cache.read().graves.len(), GRAVES);
    }
}
