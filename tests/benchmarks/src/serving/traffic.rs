//! Chat calls to both replicas and all tenants in turn: as fast as they are answered, or on schedule.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use devkit::eventually;
use reqwest::Client;
use tokio::{runtime::Handle, sync::mpsc};

use super::user::User;
use crate::percentile;

/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The callers and the replicas.
#[derive(Debug)]
pub(super) struct Traffic {
    client: Client,
    replicas: [String; 2],
    users: RwLock<Vec<Arc<User>>>,
    turn: AtomicUsize,
}

/// How calls went.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// How long each answer took, in milliseconds.
    millis: Vec<f64>,
    /// Why calls failed, and how often.
    failures: BTreeMap<String, usize>,
}

/// Calls on schedule that go on until [`Schedule::end`].
pub(super) struct Schedule {
    over: Arc<AtomicBool>,
    results: mpsc::UnboundedReceiver<Result<f64, String>>,
}

impl Traffic {
    /// For these replicas, without users yet.
    pub(super) fn new(replicas: [String; 2]) -> anyhow::Result<Arc<Traffic>> {
        let client = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Arc::new(Traffic { client, replicas, users: RwLock::default(), turn: AtomicUsize::new(0) }))
    }

    /// The client of all calls.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The replicas' addresses.
    pub(super) fn replicas(&self) -> &[String; 2] {
        &self.replicas
    }

    /// From now on these users call as well.
    pub(super) fn join(&self, user: User) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(user));
    }

    /// A tenant's users stop calling; returns when their last call is answered.
    pub(super) async fn leave(&self, tenant: &str) -> anyhow::Result<()> {
        let gone: Vec<Arc<User>> = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            users.extract_if(.., |user| user.tenant() == tenant).collect()
        };
        eventually(Duration::from_secs(60), "the last call is answered", || async {
            anyhow::ensure!(gone.iter().all(|user| Arc::strong_count(user) == 1), "a user of {tenant} waits");
            Ok(())
        })
        .await
    }

    /// The users of the first tenant.
    pub(super) fn first(&self) -> Option<Arc<User>> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// One call. Replicas and tenants are chosen round-robin, independently of each other.
    async fn call(&self) -> Result<(), String> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let user = {
            let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
            let place = (turn / 2).checked_rem(users.len()).unwrap_or_default();
            users.get(place).cloned().ok_or("there are no users")?
        };
        let answered = user.chat(&self.client, &self.replicas[turn % 2]).await;
        answered.map(drop)
    }

    /// Closed loop: `callers` at once, each with its next call as soon as the last one is answered.
    pub(super) async fn saturate(self: &Arc<Self>, callers: usize, time: Duration) -> Tally {
        let end = Instant::now() + time;
        let calling: Vec<_> = (0..callers)
            .map(|_| {
                let traffic = Arc::clone(self);
                tokio::spawn(async move {
                    let mut tally = Tally::default();
                    while Instant::now() < end {
                        let begun = Instant::now();
                        let result = traffic.call().await;
                        // A later answer does not count.
                        if Instant::now() < end || result.is_err() {
                            tally.note(result.map(|()| millis(begun.elapsed())));
                        }
                    }
                    tally
                })
            })
            .collect();
        let mut all = Tally::default();
        for caller in calling {
            match caller.await {
                Ok(tally) => all.add(tally),
                Err(error) => all.note(Err(format!("a caller broke off: {error}"))),
            }
        }
        all
    }

    /// Open loop: a call every `1 / per_second`, whether or not the earlier ones are answered. How long it takes counts
    /// from the time it was due, so that delays of the callers are included.
    pub(super) fn on_schedule(self: &Arc<Self>, per_second: f64) -> Schedule {
        let (sender, results) = mpsc::unbounded_channel();
        let over = Arc::new(AtomicBool::new(false));
        let (traffic, stop, runtime) = (Arc::clone(self), Arc::clone(&over), Handle::current());
        let begin = Instant::now();
        // A separate thread, because the runtime's timers have a resolution of a millisecond.
        thread::spawn(move || {
            for number in 0_u32.. {
                let due = begin + Duration::from_secs_f64(f64::from(number) / per_second);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (traffic, sender) = (Arc::clone(&traffic), sender.clone());
                runtime.spawn(async move {
                    let result = traffic.call().await.map(|()| millis(due.elapsed()));
                    // The receiver is gone when the benchmark has failed.
                    let _ = sender.send(result);
                });
            }
        });
        Schedule { over, results }
    }
}

impl Schedule {
    /// Starts no further call, and returns when all are answered.
    pub(super) async fn end(mut self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        while let Some(result) = self.results.recv().await {
            tally.note(result);
        }
        tally
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    fn note(&mut self, result: Result<f64, String>) {
        match result {
            Ok(millis) => self.millis.push(millis),
            Err(reason) => *self.failures.entry(reason).or_default() += 1,
        }
    }

    fn add(&mut self, other: Tally) {
        self.millis.extend(other.millis);
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
    }

    /// How many calls were answered.
    pub(super) fn answered(&self) -> usize {
        self.millis.len()
    }

    /// How many calls failed.
    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// How many there were.
    pub(super) fn all(&self) -> usize {
        self.answered() + self.failed()
    }

    /// Why calls failed.
    pub(super) fn reasons(&self) -> String {
        let counted = |(reason, count): (&String, &usize)| format!("{count} × {reason}");
        self.failures.iter().map(counted).collect::<Vec<_>>().join("; ")
    }

    /// Milliseconds that this share of the answers did not exceed.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, share)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
