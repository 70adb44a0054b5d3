//! The registry from a directory: one file per entry, `<entry name>.json`. For tests and for runtimes without Kubernetes.
//!
//! Files are written elsewhere and moved into place. A mounted volume changes by a swapped link, which some file systems
//! don't announce: the directory is also read every few seconds. Versions count the changes this process has seen, unless
//! a file `VERSION` holds a larger number.

use super::{RawEntry, RegistryEvent, follow::ServedRegistry};
use crate::domain::{entry::EntryKind, ident::Version};
use notify::{RecursiveMode, Watcher};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// How long to wait after a notice, so that several files that change together are read together.
const SETTLE: Duration = Duration::from_millis(10);

/// Why a directory can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the registry's directory '{directory}' can't be read")]
pub struct DirectoryError {
    directory: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What a file looked like when it was last read.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

#[derive(Default)]
struct SeenFiles {
    /// Stamp and version by entry name.
    files: BTreeMap<String, (Stamp, Version)>,
    counter: u64,
    listed: bool,
}

/// Follows a directory until the receiver is gone.
pub async fn follow(
    directory: PathBuf,
    poll: Duration,
    registry: ServedRegistry,
    changes: mpsc::Sender<RegistryEvent>,
) {
    let (notices, mut noticed) = mpsc::channel::<()>(1);
    let watcher = notify::recommended_watcher(move |_| {
        // A full channel means that the directory is about to be read anyway.
        let _ = notices.try_send(());
    });
    let watcher = watcher.and_then(|mut w| w.watch(&directory, RecursiveMode::NonRecursive).map(|()| w));
    if let Err(error) = &watcher {
        tracing::warn!(%error, "the directory's changes can't be watched; reading it periodically");
    }
    let mut seen = SeenFiles::default();
    loop {
        let path = directory.clone();
        let scan = tokio::task::spawn_blocking(move || {
            let result = seen.scan(&path);
            (seen, result)
        });
        let Ok((back, result)) = scan.await else { return };
        seen = back;
        match result {
            Ok(found) => {
                registry.note_contact();
                for change in found {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %crate::telemetry::Chain(&error), "the directory can't be read; serving what was read before")
            }
        }
        tokio::select! {
            () = changes.closed() => return,
            () = tokio::time::sleep(poll) => {}
            Some(()) = noticed.recv() => {
                tokio::time::sleep(SETTLE).await;
                while noticed.try_recv().is_ok() {}
            }
        }
    }
}

impl SeenFiles {
    /// Reads every file; returns what has changed since the last scan.
    fn scan(&mut self, directory: &Path) -> Result<Vec<RegistryEvent>, DirectoryError> {
        let failed = |source| DirectoryError { directory: directory.to_owned(), source };
        let given = std::fs::read_to_string(directory.join("VERSION")).ok().and_then(|t| t.trim().parse().ok());
        self.counter = self.counter.max(given.unwrap_or(0));
        let mut present = BTreeSet::new();
        let mut entries = Vec::new();
        for file in std::fs::read_dir(directory).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
            let Some(name) = name.map(str::to_owned) else { continue };
            let Some(kind) = name.split_once('-').and_then(|(kind, _)| EntryKind::parse(kind)) else { continue };
            // A file that vanishes between listing and reading is deleted; the next scan reports that.
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let stamp = Stamp { modified: meta.modified().ok(), length: meta.len() };
            present.insert(name.clone());
            if self.files.get(&name).is_some_and(|(old, _)| *old == stamp) {
                continue;
            }
            let Ok(content) = std::fs::read(&path) else { continue };
            self.counter += 1;
            let version = Version(self.counter);
            self.files.insert(name.clone(), (stamp, version));
            entries.push(RawEntry { name, kind, version, content: Zeroizing::new(content) });
        }
        let gone: Vec<_> = self.files.keys().filter(|name| !present.contains(*name)).cloned().collect();
        let mut changes = Vec::new();
        if self.listed {
            // What others refer to first, tenants last.
            entries.sort_by_key(|d| std::cmp::Reverse(d.kind));
            changes.extend(entries.into_iter().map(RegistryEvent::Applied));
        } else {
            changes.push(RegistryEvent::Listed { entries, version: Version(self.counter) });
            self.listed = true;
        }
        // Tenants first: what only they referred to may go with them.
        let (tenants, others): (Vec<_>, Vec<_>) = gone.into_iter().partition(|n| n.starts_with("tenant-"));
        for name in tenants.into_iter().chain(others) {
            self.files.remove(&name);
            self.counter += 1;
            changes.push(RegistryEvent::Deleted { name, version: Version(self.counter) });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changes: &[RegistryEvent]) -> Vec<String> {
        let name = |change: &RegistryEvent| match change {
            RegistryEvent::Listed { entries, .. } => format!("listed {}", entries.len()),
            RegistryEvent::Applied(raw) => format!("applied {}", raw.name),
            RegistryEvent::Deleted { name, .. } => format!("deleted {name}"),
            RegistryEvent::Progress(_) => "progress".to_owned(),
        };
        changes.iter().map(name).collect()
    }

    #[test]
    fn a_scan_returns_what_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
        write("tenant-acme.json", "{}");
        write("README.md", "no entry");
        let mut seen = SeenFiles::default();
        assert_eq!(names(&seen.scan(path).unwrap()), ["listed 1"]);
        assert!(seen.scan(path).unwrap().is_empty());
        write("tenant-acme.json", "{ }");
        write("agent-1.json", "{}");
        assert_eq!(names(&seen.scan(path).unwrap()), ["applied agent-1", "applied tenant-acme"]);
        std::fs::remove_file(path.join("agent-1.json")).unwrap();
        assert_eq!(names(&seen.scan(path).unwrap()), ["deleted agent-1"]);
    }
}
