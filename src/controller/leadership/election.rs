//! Leader election: one operator at a time acts, chosen by a Lease. kube has no elector.
//!
//! Expiry is measured by the monotonic clock of this process since it saw the record change, never by the times in the record.
//! A new leader raises `leaseTransitions`, which is also the epoch that fences the database.

use crate::{
    clock::Clock,
    effects::{
        error::EffectError,
        kubernetes::{
            fence::LeaseFence,
            lease::{LeaderLease, LeaderRecord, LeaseRequest},
        },
    },
};
use std::time::Duration;
use tokio::sync::watch;

/// What to do with the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Take it with this epoch.
    Take(i32),
    /// Another operator leads: wait.
    Wait,
}

/// Decides. `unchanged` is the time since this process saw the record change.
fn decide(record: Option<&LeaderRecord>, identity: &str, unchanged: Duration) -> Decision {
    let Some(record) = record else { return Decision::Take(1) };
    let free = record.holder.is_empty() || record.holder == identity || unchanged > record.duration;
    if free { Decision::Take(record.transitions.saturating_add(1)) } else { Decision::Wait }
}

/// Durations of the election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectorSettings {
    /// How long the Lease is valid after a renewal.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew: Duration,
}

/// The elector of this process.
pub(crate) struct Elector {
    lease: LeaderLease,
    identity: String,
    timing: ElectorSettings,
    clock: Clock,
    fence: LeaseFence,
    wanted: watch::Sender<i32>,
}

/// Requests a higher epoch.
#[derive(Clone)]
pub(crate) struct EpochRequest {
    wanted: watch::Sender<i32>,
    fence: LeaseFence,
}

/// A Lease of another process, and the monotonic time since when it is unchanged.
struct SeenRecord {
    record: LeaderRecord,
    since: Duration,
}

impl EpochRequest {
    /// The epoch of this leadership.
    pub(crate) fn current(&self) -> i32 {
        self.fence.epoch()
    }

    /// Raises the epoch above `seen`, in the Lease first. Returns when that is done.
    pub(crate) async fn raise_above(&self, seen: i32) {
        let target = seen.saturating_add(1);
        self.wanted.send_if_modified(|wanted| {
            let raise = *wanted < target;
            *wanted = (*wanted).max(target);
            raise
        });
        while self.fence.epoch() < target {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Elector {
    /// Creates an elector.
    pub(crate) fn new(
        lease: LeaderLease,
        identity: String,
        timing: ElectorSettings,
        clock: Clock,
        fence: LeaseFence,
    ) -> Self {
        Self { lease, identity, timing, clock, fence, wanted: watch::Sender::new(0) }
    }

    /// The holder that this process writes.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// A handle that requests a higher epoch.
    pub(crate) fn epochs(&self) -> EpochRequest {
        EpochRequest { wanted: self.wanted.clone(), fence: self.fence.clone() }
    }

    /// Returns when this process holds the Lease.
    pub(crate) async fn acquire(&self) -> LeaderRecord {
        let mut seen: Option<SeenRecord> = None;
        let mut logged = false;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(record)) => return record,
                Ok(None) if !logged => {
                    logged = true;
                    let holder = seen.as_ref().map(|seen| seen.record.holder.as_str()).unwrap_or_default();
                    tracing::info!(holder, "another operator leads; this one is a standby");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error.chain(), "the leader Lease can't be read or written; it is retried")
                }
            }
            tokio::time::sleep(self.timing.renew.min(Duration::from_secs(2))).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<SeenRecord>) -> Result<Option<LeaderRecord>, EffectError> {
        let record = self.lease.observe().await?;
        let now = self.clock.monotonic();
        let unchanged = match (&record, &*seen) {
            (Some(record), Some(seen)) if seen.record == *record => now.saturating_sub(seen.since),
            (Some(record), _) => {
                *seen = Some(SeenRecord { record: record.clone(), since: now });
                Duration::ZERO
            }
            (None, _) => Duration::ZERO,
        };
        match decide(record.as_ref(), &self.identity, unchanged) {
            Decision::Wait => Ok(None),
            Decision::Take(epoch) => self.write(&self.identity, epoch, record.as_ref()).await,
        }
    }

    async fn write(
        &self,
        holder: &str,
        epoch: i32,
        seen: Option<&LeaderRecord>,
    ) -> Result<Option<LeaderRecord>, EffectError> {
        let sent = self.clock.monotonic();
        let claim = LeaseRequest { holder, duration: self.timing.duration, transitions: epoch, now: self.clock.now() };
        let written = self.lease.perform_write(&claim, seen).await?;
        if written.is_some() && !holder.is_empty() {
            self.fence.set_epoch(epoch);
            self.fence.extend(sent + self.timing.duration);
        }
        Ok(written)
    }

    /// Renews the Lease. Returns when it is lost: the process has to end.
    pub(crate) async fn keep(&self, mut record: LeaderRecord) -> &'static str {
        let mut wanted = self.wanted.subscribe();
        let mut pause = self.timing.renew;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wanted.changed() => {}
            }
            let epoch = record.transitions.max(*wanted.borrow_and_update());
            match self.write(&self.identity, epoch, Some(&record)).await {
                Ok(Some(renewed)) => {
                    record = renewed;
                    pause = self.timing.renew;
                }
                // A lost reply looks the same: then the record still names this process.
                Ok(None) => match self.lease.observe().await {
                    Ok(Some(now)) if now.holder == self.identity && now.transitions == epoch => {
                        record = now;
                        pause = Duration::from_millis(50);
                    }
                    Ok(_) => return "another operator took the leader Lease",
                    Err(_) => pause = Duration::from_millis(500),
                },
                Err(error) => {
                    tracing::warn!(error = error.chain(), "the leader Lease could not be renewed");
                    pause = Duration::from_millis(500);
                }
            }
            if !self.fence.is_leader() {
                return "the leader Lease could not be renewed in time";
            }
        }
    }

    /// Releases the Lease, so that the next leader does not wait for its expiry. Best effort.
    pub(crate) async fn release(&self) {
        self.fence.close();
        if let Ok(Some(record)) = self.lease.observe().await
            && record.holder == self.identity
            && let Err(error) = self.write("", record.transitions, Some(&record)).await
        {
            tracing::debug!(error = error.chain(), "the leader Lease was not released");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaderRecord {
        LeaderRecord { version: "7".into(), holder: holder.into(), duration: Duration::from_secs(15), transitions: 4 }
    }

    #[test]
    fn an_unchanged_lease_expires_after_its_duration() {
        assert_eq!(decide(Some(&held_by("a")), "b", Duration::from_secs(15)), Decision::Wait);
        assert_eq!(decide(Some(&held_by("a")), "b", Duration::from_secs(16)), Decision::Take(5));
    }

    #[test]
    fn a_restarted_holder_takes_its_lease_at_once_with_a_higher_epoch() {
        assert_eq!(decide(Some(&held_by("a")), "a", Duration::ZERO), Decision::Take(5));
        assert_eq!(decide(Some(&held_by("")), "b", Duration::ZERO), Decision::Take(5));
        assert_eq!(decide(None, "b", Duration::ZERO), Decision::Take(1));
    }
}
