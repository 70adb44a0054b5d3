//! Follows a source of changes: applies what it delivers, publishes snapshots, tries logins, and records the progress.
//!
//! Requests never wait for this task: they read the last published snapshot.

use super::{
    RegistryEvent, Snapshot,
    index::{Login, RegistryIndex},
    status::{QuarantineStatus, RegistryStatus},
};
use crate::{
    agent_api::metrics::ApiMetrics,
    clock::Clock,
    domain::{
        entry::CellEntry,
        ident::{Incarnation, Version},
    },
};
use arc_swap::{ArcSwap, Guard};
use futures::future::BoxFuture;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

/// Most changes that are applied before the next snapshot is published.
const BATCH: usize = 256;
/// Entries of a first list that are applied before other tasks get their turn.
const CHUNK: usize = 64;
/// First and longest wait before a cell's login is tried again.
const LOGIN_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// First wait, and how long failures aren't reported: the operator publishes a login just before it creates it, so that no
/// password is ever lost, and the tenants of a new cell must not be quarantined for that.
const LOGIN_EARLY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Tries a cell's login, bounded in time; the error is a reason without secrets.
pub type TryLogin = Arc<dyn Fn(CellEntry) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How far this replica has applied the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether all of the first list is applied and may be acknowledged: the login to each new cell was accepted or refused.
    pub listed: bool,
    /// Everything up to here is applied and may be acknowledged.
    pub version: Version,
    /// Tenants that are not served as written.
    pub quarantined: Arc<BTreeMap<Incarnation, String>>,
    /// There are more of them than may be named.
    pub overflow: bool,
}

/// The served registry. Clones share everything.
#[derive(Clone)]
pub struct ServedRegistry {
    snapshot: Arc<ArcSwap<Snapshot>>,
    status: Arc<ArcSwap<RegistryStatus>>,
    progress: Arc<watch::Sender<Progress>>,
    /// Monotonic milliseconds of the last contact with the source.
    contact: Arc<AtomicU64>,
    clock: Clock,
}

impl ServedRegistry {
    /// A registry that knows nothing yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            snapshot: Arc::default(),
            status: Arc::default(),
            progress: Arc::new(watch::Sender::new(Progress::default())),
            contact: Arc::new(AtomicU64::new(millis(clock.monotonic()))),
            clock,
        }
    }

    /// What requests may see now.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The registry for people.
    pub fn status(&self) -> Arc<RegistryStatus> {
        self.status.load_full()
    }

    /// The progress, now and whenever it changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Records contact with the source.
    pub fn note_contact(&self) {
        self.contact.store(millis(self.clock.monotonic()), Ordering::Relaxed);
    }

    /// Time since the last contact with the source.
    pub fn staleness(&self) -> Duration {
        let contact = Duration::from_millis(self.contact.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(contact)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the follower works with.
pub struct Follower {
    registry: ServedRegistry,
    index: RegistryIndex,
    try_login: TryLogin,
    metrics: Arc<ApiMetrics>,
    clock: Clock,
    /// Version of the first list, once it is applied.
    first_list: Option<Version>,
    listed: bool,
    logins: HashMap<String, AbortHandle>,
    outcomes: (mpsc::UnboundedSender<LoginOutcome>, mpsc::UnboundedReceiver<LoginOutcome>),
}

struct LoginOutcome {
    name: String,
    version: Version,
    result: Result<(), String>,
}

impl Follower {
    /// A follower that publishes into `registry`.
    pub fn new(
        registry: ServedRegistry,
        index: RegistryIndex,
        try_login: TryLogin,
        metrics: Arc<ApiMetrics>,
        clock: Clock,
    ) -> Self {
        let outcomes = mpsc::unbounded_channel();
        Self {
            registry,
            index,
            try_login,
            metrics,
            clock,
            first_list: None,
            listed: false,
            logins: HashMap::new(),
            outcomes,
        }
    }

    /// Runs until the source ends.
    pub async fn run(mut self, mut changes: mpsc::Receiver<RegistryEvent>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                received = changes.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    let began = self.clock.monotonic();
                    for change in batch.drain(..) {
                        self.apply(change).await;
                    }
                    self.publish();
                    self.metrics.apply_seconds.observe((self.clock.monotonic() - began).as_secs_f64());
                }
                Some(outcome) = self.outcomes.1.recv() => {
                    let LoginOutcome { name, version, result } = outcome;
                    match &result {
                        Ok(()) => tracing::info!(cell = name, "logged in to the cell"),
                        Err(reason) => tracing::warn!(cell = name, reason, "the login to the cell failed"),
                    }
                    self.index.login(&name, version, result);
                    self.publish();
                }
            }
        }
        for login in self.logins.values() {
            login.abort();
        }
    }

    async fn apply(&mut self, change: RegistryEvent) {
        match change {
            RegistryEvent::Applied(raw) => self.index.apply(&raw),
            RegistryEvent::Deleted { name, version } => self.delete(&name, version),
            RegistryEvent::Progress(version) => self.index.progress(version),
            RegistryEvent::Listed { entries, version } => {
                let mut gone: std::collections::HashSet<String> = self.index.names().into_iter().collect();
                let total = entries.len();
                let mut changed = 0;
                // What others refer to comes first, so that no tenant is quarantined meanwhile.
                let (tenants, mut ordered): (Vec<_>, Vec<_>) =
                    entries.into_iter().partition(|d| d.name.starts_with("tenant-"));
                ordered.sort_by_key(|d| std::cmp::Reverse(d.kind));
                for raw in ordered.into_iter().chain(tenants) {
                    gone.remove(&raw.name);
                    if self.index.has(&raw.name, raw.version) {
                        continue;
                    }
                    self.index.apply(&raw);
                    changed += 1;
                    if changed % CHUNK == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                // Tenants first, so that what only they referred to may go with them.
                let mut gone: Vec<_> = gone.into_iter().collect();
                gone.sort_by_key(|name| !name.starts_with("tenant-"));
                for name in &gone {
                    self.delete(name, version);
                }
                self.index.progress(version);
                self.first_list.get_or_insert(version);
                tracing::info!(entries = total, changed, missing = gone.len(), %version, "applied a list of the registry");
            }
        }
    }

    fn delete(&mut self, name: &str, version: Version) {
        self.index.delete(name, version);
        if let Some(reason) = self.index.ignored().get(name) {
            self.metrics.ignored_deletions.inc();
            tracing::error!(entry = name, reason, "ignored the deletion of a registry entry");
        }
    }

    fn publish(&mut self) {
        for login in self.index.take_logins() {
            self.start_login(login);
        }
        self.listed |= self.first_list.is_some_and(|first| self.index.acknowledgeable() >= first);
        let snapshot = self.index.snapshot().clone();
        let named = self.index.quarantined().iter().take(crate::domain::ack::MAX_QUARANTINED);
        let quarantined = named.map(|(name, q)| {
            let status = QuarantineStatus { incarnation: q.incarnation, reason: q.reason.clone() };
            (name.clone(), status)
        });
        let status = RegistryStatus {
            listed: self.listed,
            version: self.index.acknowledgeable(),
            tenants: snapshot.tenants.len(),
            agents: snapshot.agents.len(),
            cells: snapshot.cells.len(),
            quarantined_count: self.index.quarantined().len(),
            quarantined: quarantined.collect(),
            ignored_deletions_count: self.index.ignored().len(),
            ignored_deletions: self.index.ignored().clone(),
        };
        self.metrics.note_entries([
            ("tenant", status.tenants),
            ("agent", status.agents),
            ("cell", status.cells),
            ("upstream", snapshot.upstreams.len()),
        ]);
        self.metrics.note_registry(status.quarantined_count, status.version.0);
        let before = self.registry.status.load();
        for (name, quarantine) in &status.quarantined {
            if before.quarantined.get(name) != Some(quarantine) {
                tracing::warn!(entry = name, reason = quarantine.reason, "quarantined a tenant");
            }
        }
        self.registry.snapshot.store(Arc::new(snapshot));
        let (quarantined, overflow) = self.index.acknowledged_quarantine();
        let progress =
            Progress { listed: self.listed, version: status.version, quarantined: Arc::new(quarantined), overflow };
        self.registry.status.store(Arc::new(status));
        self.registry.progress.send_if_modified(|old| {
            let changed = *old != progress;
            *old = progress;
            changed
        });
    }

    /// Tries a login until it succeeds or a newer version of the entry takes its place.
    fn start_login(&mut self, login: Login) {
        let Login { name, version, entry } = login;
        let (try_login, outcomes, key) = (Arc::clone(&self.try_login), self.outcomes.0.clone(), name.clone());
        let report = move |result| outcomes.send(LoginOutcome { name: name.clone(), version, result }).is_ok();
        let task = tokio::spawn(try_until_success(try_login, entry, report));
        if let Some(old) = self.logins.insert(key, task.abort_handle()) {
            old.abort();
        }
    }
}

/// Reports every outcome but early failures. Ends with a success, or when the receiver is dropped.
async fn try_until_success(
    try_login: TryLogin,
    entry: CellEntry,
    report: impl Fn(Result<(), String>) -> bool + Send + 'static,
) {
    let began = Instant::now();
    let (mut early, mut late) = (LOGIN_EARLY.0, LOGIN_RETRY.0);
    loop {
        let result = try_login(entry.clone()).await;
        if result.is_err() && began.elapsed() < LOGIN_EARLY.1 {
            tokio::time::sleep(early).await;
            early *= 2;
            continue;
        }
        let done = result.is_ok();
        if !report(result) || done {
            return;
        }
        tokio::time::sleep(late).await;
        late = (late * 2).min(LOGIN_RETRY.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent_api::fixtures::cell, domain::entry::Entry};
    use std::sync::{Mutex, atomic::AtomicUsize};

    /// The reported outcomes of a login that fails `failures` times, and the time until then.
    async fn reported(failures: usize) -> (Vec<Result<(), String>>, Duration) {
        let tried = Arc::new(AtomicUsize::new(0));
        let try_login: TryLogin = Arc::new(move |_| {
            let failed = tried.fetch_add(1, Ordering::Relaxed) < failures;
            Box::pin(async move { if failed { Err("no such role".to_owned()) } else { Ok(()) } })
        });
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let (heard, began) = (Arc::clone(&outcomes), Instant::now());
        let Entry::Cell(entry) = cell(1, "p") else { unreachable!() };
        // The receiver is dropped after the first outcome.
        let report = move |outcome| {
            heard.lock().unwrap().push(outcome);
            false
        };
        try_until_success(try_login, entry, report).await;
        let all = outcomes.lock().unwrap().clone();
        (all, began.elapsed())
    }

    #[tokio::test]
    async fn a_login_that_is_created_a_moment_later_never_failed() {
        let (outcomes, took) = reported(2).await;
        assert_eq!(outcomes, [Ok(())]);
        assert!(took < LOGIN_EARLY.1, "{took:?}");
    }

    #[tokio::test]
    async fn a_login_that_keeps_failing_is_reported() {
        let (outcomes, took) = reported(usize::MAX).await;
        assert_eq!(outcomes, [Err("no such role".to_owned())]);
        assert!(took >= LOGIN_EARLY.1 && took < LOGIN_EARLY.1 * 3, "{took:?}");
    }
}
