//! Fills a cache from a watch while the process runs.

use super::cache::{Cache, CacheChange, Key, Versioned};
use crate::{domain::ident::Version, telemetry::Chain};
use futures::{StreamExt, TryStreamExt};
use kube::{Api, Resource};
use kube_runtime::{WatchStreamExt, utils::Backoff, watcher};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, time::Duration};
use tokio::{sync::watch, time::Instant};

/// First wait after a watch or its list has failed.
const MIN_RETRY: Duration = Duration::from_millis(200);
/// Longest wait after a watch or its list has failed. kube-runtime's default is up to a minute, during which
/// changes are missed.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// After this time without a failure, the next wait is the first one again. A successful list does not reset the waits: a
/// server that refuses every version as too old would be asked for whole lists continuously.
const RESET_AFTER: Duration = Duration::from_secs(30);

/// The waits between the retries of one watch.
struct Waits {
    next: Duration,
    until: Instant,
}

impl Waits {
    fn at(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.until) > RESET_AFTER {
            self.next = MIN_RETRY;
        }
        let wait = self.next;
        self.next = (wait * 2).min(MAX_RETRY);
        self.until = now + wait;
        wait
    }
}

impl Iterator for Waits {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        Some(self.at(Instant::now()))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {}
}

pub(crate) fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

pub(crate) fn version_of<K: Resource>(object: &K) -> Version {
    object.meta().resource_version.as_deref().and_then(Version::parse).unwrap_or_default()
}

/// Watches `api` into `cache` until the process ends. `view` selects what is stored of an object; `changed` is called for
/// every change; `synced` becomes true after the first complete list. With a `namespace`, only keys of that namespace are
/// removed when a new list lacks them, so that several watches can fill one cache.
pub(crate) async fn watch_into<K, V>(
    api: Api<K>,
    namespace: Option<String>,
    config: watcher::Config,
    cache: Cache<V>,
    view: impl Fn(K) -> V + Send,
    changed: impl Fn(&Key, CacheChange<V>) + Send,
    synced: watch::Sender<bool>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
    V: Versioned,
{
    let waits = Waits { next: MIN_RETRY, until: Instant::now() };
    let mut events = watcher(api, config).backoff(waits).boxed();
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
                // An object that was cached before the list began, was not written since, and is not in the list, is deleted.
                let listed_at = cache.all().iter().map(|(_, value)| value.version()).max().unwrap_or_default();
                for (key, version) in at_start.drain(..).filter(|(key, _)| !listed.contains(key)) {
                    let unchanged = cache.get(&key).is_some_and(|value| value.version() == version);
                    if let Some(change) = unchanged.then(|| cache.remove(&key, listed_at)).flatten() {
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
            // The watcher backs off and restarts by itself.
            Err(error) => tracing::debug!(error = %Chain(&error), "a watch was interrupted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_few_seconds_and_are_short_again_after_a_time_without_failures() {
        let mut now = Instant::now();
        let mut waits = Waits { next: MIN_RETRY, until: now };
        let mut take = |pause: u64, n: usize| -> Vec<u128> {
            now += Duration::from_secs(pause);
            let mut next = || {
                let wait = waits.at(now);
                now += wait;
                wait.as_millis()
            };
            (0..n).map(|_| next()).collect()
        };
        assert_eq!(take(0, 7), [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(take(25, 1), [5000]);
        assert_eq!(take(31, 2), [200, 400]);
    }
}
