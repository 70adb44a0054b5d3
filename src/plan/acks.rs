//! Which replicas have to acknowledge which version before a step may follow.

use super::{
    observed::{LastReference, Replicas},
    report::{PartReport, PartState},
};
use crate::{
    api::{ConditionType, Notice, NoticeKind, Reason},
    domain::{
        ack::{MAX_QUARANTINED, Replica},
        class::ErrorClass,
        ident::{Incarnation, Version},
    },
};
use jiff::{SignedDuration, Timestamp};

/// Whether every ready replica serves an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every ready replica, at least one, acknowledged it.
    Served,
    /// These ready replicas have not acknowledged it yet.
    Waiting(Vec<String>),
    /// There is no ready replica.
    NoReplicas,
    /// This replica refuses it.
    Quarantined {
        /// Its name.
        replica: String,
        /// What it says.
        why: String,
    },
}

/// Whether every ready replica serves the entry at `version`. `incarnation` is the tenant's, for its quarantine; an
/// AgentConfig has none.
pub fn prove_served(version: Version, incarnation: Option<Incarnation>, replicas: &Replicas) -> Proof {
    let ready: Vec<&Replica> = replicas.all.iter().filter(|r| r.ready).collect();
    if ready.is_empty() {
        return Proof::NoReplicas;
    }
    let waiting: Vec<String> = ready.iter().filter(|r| !r.has_applied(version)).map(|r| r.name.clone()).collect();
    if !waiting.is_empty() {
        return Proof::Waiting(waiting);
    }
    for replica in ready {
        let (Some(ack), Some(incarnation)) = (&replica.acknowledged, incarnation) else { continue };
        if let Some(why) = ack.quarantined.get(&incarnation) {
            return Proof::Quarantined { replica: replica.name.clone(), why: why.clone() };
        }
        if ack.quarantine_overflow {
            let why = format!("it quarantines more than {MAX_QUARANTINED} tenants");
            return Proof::Quarantined { replica: replica.name.clone(), why };
        }
    }
    Proof::Served
}

/// Whether every running replica has acknowledged that something is no longer served, or no longer referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Every one has.
    Everywhere,
    /// These have not yet; they are waited for until this time.
    Waiting(Vec<String>, Timestamp),
    /// These have not in time, and are not waited for any more.
    TimedOut(Vec<String>),
}

/// Judges whether what was last referred to, or served, at `last` may be taken away.
pub fn judge_acknowledged(
    last: LastReference,
    replicas: &Replicas,
    timeout_seconds: i64,
    now: Timestamp,
) -> Acknowledged {
    let unacknowledged = unacknowledged_replicas(last.version, replicas);
    let until = last.since.saturating_add(SignedDuration::from_secs(timeout_seconds)).unwrap_or(now);
    match (unacknowledged.is_empty(), now >= until) {
        (true, _) => Acknowledged::Everywhere,
        (false, false) => Acknowledged::Waiting(unacknowledged, until),
        (false, true) => Acknowledged::TimedOut(unacknowledged),
    }
}

/// The event that names replicas which did not acknowledge something in time.
pub fn replicas_timed_out(names: &[String], what: &str) -> Notice {
    let note = format!("{} did not acknowledge {what} in time", names.join(", "));
    Notice { kind: NoticeKind::Warning, reason: Reason::ReplicaTimedOut, note }
}

/// The running replicas, Ready or not, that may still act on what was there before `version`.
pub fn unacknowledged_replicas(version: Version, replicas: &Replicas) -> Vec<String> {
    unacknowledged(version, replicas, |_| true)
}

/// The replicas that speak to us and take or may take requests, and have not applied `version`: for them a key that it
/// brings is unknown. A replica that never spoke takes no requests before it has applied everything.
pub fn unacknowledged_speakers(version: Version, replicas: &Replicas) -> Vec<String> {
    unacknowledged(version, replicas, |r| r.acknowledged.is_some())
}

/// The ready replicas that don't read entries of this format.
pub(crate) fn replicas_below_format(format: u32, replicas: &Replicas) -> Vec<String> {
    let below = |r: &&Replica| r.ready && r.acknowledged.as_ref().is_some_and(|ack| ack.format < format);
    replicas.all.iter().filter(below).map(|r| r.name.clone()).collect()
}

/// The running replicas that count and have not applied `version`.
fn unacknowledged(version: Version, replicas: &Replicas, counts: impl Fn(&Replica) -> bool) -> Vec<String> {
    let unacknowledged = replicas.all.iter().filter(|r| r.running && counts(r) && !r.has_applied(version));
    unacknowledged.map(|r| r.name.clone()).collect()
}

/// The report on `Served` for an entry at `version` (`None`: it is being written in this reconcile), and the version to wait
/// for. What was proved once (`recorded`) is not asked again.
pub fn judge_served(
    version: Option<Version>,
    incarnation: Option<Incarnation>,
    recorded: Option<Version>,
    replicas: &Replicas,
) -> (PartReport, Option<Version>) {
    let report = |state, reason, note: String| PartReport::new(ConditionType::Served, state, reason, note);
    // An entry that this reconcile writes is acknowledged by no replica yet. The next reconcile reports the same words, so that
    // the status does not change.
    let proof = match version {
        Some(version) if recorded == Some(version) => Proof::Served,
        Some(version) => prove_served(version, incarnation, replicas),
        None => prove_served(Version(u64::MAX), incarnation, replicas),
    };
    match proof {
        Proof::Served => {
            let version = version.unwrap_or_default();
            (
                report(PartState::Ready, Reason::Served, format!("every ready replica serves entry version {version}")),
                None,
            )
        }
        Proof::Waiting(names) => (
            report(PartState::Waiting, Reason::WaitingForReplicas, format!("waiting for {}", names.join(", "))),
            version,
        ),
        Proof::NoReplicas => {
            (report(PartState::Waiting, Reason::NoReplicas, "no ready replica of the agent API".to_owned()), version)
        }
        Proof::Quarantined { replica, why } => {
            let note = format!("replica {replica} refuses the entry: {why}");
            (report(PartState::Refused(ErrorClass::Transient), Reason::Quarantined, note), version)
        }
    }
}
