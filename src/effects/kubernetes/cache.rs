//! A map of what is in the API server: fed by a watch and by the replies to our own writes, so that a pass sees what
//! the pass before it wrote. The newest version of an object wins, wherever it came from.

use crate::domain::ident::Version;
use std::{
    collections::BTreeMap,
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

/// The map. Clones share it.
#[derive(Debug)]
pub struct Cache<V>(Arc<RwLock<BTreeMap<Key, Arc<V>>>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<V: Versioned> Cache<V> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Arc<V>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Key, Arc<V>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<V>> {
        self.read().get(key).cloned()
    }

    /// Every object, in the order of namespace and name.
    pub fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.read().iter().map(|(k, v)| (k.clone(), Arc::clone(v))).collect()
    }

    /// Every key.
    pub fn keys(&self) -> Vec<Key> {
        self.read().keys().cloned().collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Takes in an object unless the same or a newer version is there. Returns the change, if it is one.
    pub fn apply(&self, key: Key, value: V) -> Option<Change<V>> {
        let mut map = self.write();
        let before = map.get(&key).cloned();
        if before.as_ref().is_some_and(|old| old.version() >= value.version()) {
            return None;
        }
        let version = value.version();
        let after = Arc::new(value);
        map.insert(key, Arc::clone(&after));
        Some(Change { before, after: Some(after), version })
    }

    /// Takes out an object unless a version newer than `version`, at which it was deleted, is there.
    pub fn remove(&self, key: &Key, version: Version) -> Option<Change<V>> {
        let mut map = self.write();
        if map.get(key).is_none_or(|old| old.version() > version) {
            return None;
        }
        map.remove(key).map(|before| Change { before: Some(before), after: None, version })
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
}
