//! Feeding a cache from a watch, for as long as the process runs.

use super::cache::{Cache, Change, Key, Versioned};
use crate::{domain::ident::Version, telemetry::Chain};
use futures::{StreamExt, TryStreamExt};
use kube::{Api, Resource};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug};
use tokio::sync::watch;

/// Namespace and name of an object.
pub fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Version of an object.
pub fn version_of<K: Resource>(object: &K) -> Version {
    object.meta().resource_version.as_deref().and_then(Version::parse).unwrap_or_default()
}

/// Watches `api` into `cache` until the process ends. `view` keeps what is needed of an object; `changed` hears of
/// every change; `synced` turns true after the first complete list. With a `namespace` only its keys are taken out when
/// a new list lacks them, so that several watches can feed one cache.
pub async fn watch_into<K, V>(
    api: Api<K>,
    namespace: Option<String>,
    config: watcher::Config,
    cache: Cache<V>,
    view: impl Fn(K) -> V + Send,
    changed: impl Fn(&Key, Change<V>) + Send,
    synced: watch::Sender<bool>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
    V: Versioned,
{
    let mut events = watcher(api, config).default_backoff().boxed();
    // Keys of a list that is being received.
    let mut listed: BTreeSet<Key> = BTreeSet::new();
    let mut at_start: Vec<(Key, Version)> = Vec::new();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                listed.clear();
                let here = |key: &Key| namespace.as_ref().is_none_or(|n| *n == key.namespace);
                let all = cache.all().into_iter().filter(|(key, _)| here(key));
                at_start = all.map(|(key, value)| (key, value.version())).collect();
            }
            Ok(Some(watcher::Event::InitApply(object))) => {
                let key = key_of(&object);
                listed.insert(key.clone());
                if let Some(change) = cache.apply(key.clone(), view(object)) {
                    changed(&key, change);
                }
            }
            Ok(Some(watcher::Event::InitDone)) => {
                // What was there before the list began, has not been written since, and is not in the list, is gone.
                let listed_at = cache.all().iter().map(|(_, value)| value.version()).max().unwrap_or_default();
                for (key, version) in at_start.drain(..).filter(|(key, _)| !listed.contains(key)) {
                    let untouched = cache.get(&key).is_some_and(|value| value.version() == version);
                    if let Some(change) = untouched.then(|| cache.remove(&key, listed_at)).flatten() {
                        changed(&key, change);
                    }
                }
                synced.send_replace(true);
            }
            Ok(Some(watcher::Event::Apply(object))) => {
                let key = key_of(&object);
                if let Some(change) = cache.apply(key.clone(), view(object)) {
                    changed(&key, change);
                }
            }
            Ok(Some(watcher::Event::Delete(object))) => {
                let key = key_of(&object);
                if let Some(change) = cache.remove(&key, version_of(&object)) {
                    changed(&key, change);
                }
            }
            Ok(None) => return,
            // The watcher backs off and starts again by itself.
            Err(error) => tracing::debug!(error = %Chain(&error), "a watch was interrupted"),
        }
    }
}
