//! The registry from the API server: lists the entries' Secrets, then watches them.
//!
//! Own code instead of kube-runtime's watcher, because that one keeps the list's `resourceVersion` and the bookmarks to
//! itself: without them a replica could not say that it has applied a deletion which it only learnt from a new list.

use super::{RawEntry, RegistryEvent, follow::ServedRegistry};
use crate::{
    api::names::{ENTRY_KEY, ENTRY_LABEL},
    domain::{entry::EntryKind, ident::Version},
    telemetry::Chain,
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};
use zeroize::Zeroizing;

/// Entries per page of a list.
const PAGE: u32 = 500;
/// Idle timeout of a watch, counted from when the server should have ended it.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Follows the entries of one namespace until the receiver is gone. The server ends each watch after `watch_seconds`,
/// so that a broken connection is detected.
pub async fn follow(
    client: Client,
    namespace: &str,
    watch_seconds: u32,
    registry: ServedRegistry,
    changes: mpsc::Sender<RegistryEvent>,
) {
    let secrets = Api::namespaced(client, namespace);
    let mut source = SecretFollower { secrets, watch_seconds, registry, changes, wait: RETRY.0 };
    let mut from: Option<String> = None;
    loop {
        let began = Instant::now();
        let stop = source.list_and_watch(&mut from).await;
        let failed = matches!(stop, Err(Stop::Failed(_)));
        match stop {
            Ok(()) => tracing::debug!("the registry's watch ended"),
            Err(Stop::Closed) => return,
            Err(Stop::Expired) => {
                tracing::info!("the registry's watch is too old; listing again");
                from = None;
            }
            Err(Stop::Failed(error)) => {
                let silent = source.registry.staleness().as_secs();
                tracing::warn!(error = %Chain(&error), silent_seconds = silent, "the API server is out of reach; serving the registry as last read");
            }
            Err(Stop::Silent) => tracing::warn!("the registry's watch timed out; watching again"),
        }
        if source.changes.is_closed() {
            return;
        }
        // What lasted was good, and the next one may begin at once; but a server that ends every watch early, or calls
        // every version too old, is asked no oftener than one that fails.
        let lasted = began.elapsed() > source.wait;
        if lasted {
            source.wait = RETRY.0;
        }
        if failed || !lasted {
            tokio::time::sleep(source.wait).await;
            source.wait = (source.wait * 2).min(RETRY.1);
        }
    }
}

enum Stop {
    /// Nobody listens any more.
    Closed,
    /// The server no longer knows the version to watch from.
    Expired,
    /// The server did not even end the watch in time.
    Silent,
    Failed(kube::Error),
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 410 => Self::Expired,
            _ => Self::Failed(error),
        }
    }
}

struct SecretFollower {
    secrets: Api<Secret>,
    watch_seconds: u32,
    registry: ServedRegistry,
    changes: mpsc::Sender<RegistryEvent>,
    /// The next wait; short again as soon as a watch has delivered something.
    wait: Duration,
}

impl SecretFollower {
    async fn send(&self, change: RegistryEvent) -> Result<(), Stop> {
        self.changes.send(change).await.map_err(|_| Stop::Closed)
    }

    /// One list, unless there is a version to watch from, then one watch.
    async fn list_and_watch(&mut self, from: &mut Option<String>) -> Result<(), Stop> {
        let version = match from.take() {
            Some(version) => version,
            None => {
                let version = self.list().await?;
                *from = Some(version.clone());
                version
            }
        };
        // After a later failure the next watch starts where this one ended.
        *from = Some(version);
        let parameters = WatchParams::default().labels(ENTRY_LABEL).timeout(self.watch_seconds);
        let deadline = Duration::from_secs(self.watch_seconds.into()) + WATCH_MARGIN;
        let start = from.clone().unwrap_or_default();
        let watch = tokio::time::timeout(deadline, self.secrets.watch(&parameters, &start));
        let mut events = watch.await.map_err(|_| Stop::Silent)??.boxed();
        self.registry.note_contact();
        loop {
            let next = tokio::time::timeout(deadline, events.try_next()).await.map_err(|_| Stop::Silent)?;
            let Some(event) = next? else { return Ok(()) };
            self.registry.note_contact();
            if !matches!(event, WatchEvent::Error(_)) {
                self.wait = RETRY.0;
            }
            match event {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    let version = secret.metadata.resource_version.clone();
                    if let Some(raw) = raw_entry(secret) {
                        self.send(RegistryEvent::Applied(raw)).await?;
                    }
                    *from = version.or(from.take());
                }
                WatchEvent::Deleted(secret) => {
                    // The event's object carries the version of the deletion itself.
                    let version = secret.metadata.resource_version.clone();
                    let parsed = version.as_deref().and_then(Version::parse);
                    if let (Some(name), Some(version)) = (secret.metadata.name, parsed) {
                        self.send(RegistryEvent::Deleted { name, version }).await?;
                    }
                    *from = version.or(from.take());
                }
                WatchEvent::Bookmark(bookmark) => {
                    let version = bookmark.metadata.resource_version;
                    if let Some(parsed) = Version::parse(&version) {
                        self.send(RegistryEvent::Progress(parsed)).await?;
                    }
                    *from = Some(version);
                }
                WatchEvent::Error(status) if status.code == 410 => return Err(Stop::Expired),
                WatchEvent::Error(status) => return Err(Stop::Failed(kube::Error::Api(status))),
            }
        }
    }

    /// Lists everything; returns the list's version.
    async fn list(&self) -> Result<String, Stop> {
        let mut entries = Vec::new();
        let mut parameters = ListParams::default().labels(ENTRY_LABEL).limit(PAGE);
        loop {
            let page = tokio::time::timeout(Duration::from_secs(30), self.secrets.list(&parameters));
            let page = page.await.map_err(|_| Stop::Silent)??;
            entries.extend(page.items.into_iter().filter_map(raw_entry));
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                let text = page.metadata.resource_version.unwrap_or_default();
                let version = Version::parse(&text).unwrap_or_default();
                self.registry.note_contact();
                self.send(RegistryEvent::Listed { entries, version }).await?;
                return Ok(text);
            }
        }
    }
}

/// What a Secret holds; `None` for one that is no entry.
fn raw_entry(secret: Secret) -> Option<RawEntry> {
    let kind = EntryKind::parse(secret.metadata.labels.as_ref()?.get(ENTRY_LABEL)?)?;
    let name = secret.metadata.name?;
    let version = Version::parse(&secret.metadata.resource_version?)?;
    let content = secret.data.and_then(|mut data| data.remove(ENTRY_KEY)).map(|bytes| bytes.0).unwrap_or_default();
    if name.starts_with(kind.as_str()) {
        Some(RawEntry { name, kind, version, content: Zeroizing::new(content) })
    } else {
        tracing::warn!(entry = name, kind = kind.as_str(), "ignored a Secret: its name and its label differ");
        None
    }
}
