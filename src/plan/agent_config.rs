//! The plan of an AgentConfig: revision, credential, entry, proof; and its end.

use super::{
    Plan,
    acks::{Acknowledged, judge_acknowledged, judge_served, replicas_timed_out},
    installation::Installation,
    observed::{AgentEntryView, Credential, ObservedAgent, Presence, RevisionView, Seen},
    report::{PartReport, PartState},
    step::{AgentStep, EntryStep, ObjectStep, RevisionStep, UpstreamStep},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{
        class::ErrorClass,
        entry::{AgentEntry, AgentRevision, FIRST_FORMAT, UpstreamEntry, behaviour_hash},
        ident::Version,
        resolve::DesiredAgent,
    },
};
use jiff::Timestamp;

/// How many revisions of an AgentConfig are kept (as `revisionHistoryLimit` of a Deployment).
pub const REVISION_HISTORY: usize = 10;

/// Plans an AgentConfig that should exist.
pub fn plan_agent(
    desired: &DesiredAgent,
    observed: &ObservedAgent,
    installation: &Installation,
    now: Timestamp,
) -> Plan<AgentStep> {
    let mut steps = Vec::new();
    let (accepted, upstream) = plan_credential(desired, observed, &mut steps);
    let revisions = match &observed.revisions {
        Seen::Ours(revisions) => revisions.as_slice(),
        Seen::Missing => &[],
        Seen::Foreign(note) => {
            return hold(observed, accepted, PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note);
        }
        Seen::Unknown(read_error) => {
            return hold(observed, accepted, PartState::Unread(read_error.class), Reason::Retrying, &read_error.note);
        }
    };
    if !accepted.allows_next_part() {
        return hold(observed, accepted, PartState::Waiting, Reason::Pending, "an earlier part has to be ready first");
    }
    if !observed.finalizer {
        steps.insert(0, AgentStep::Object(ObjectStep::AddFinalizer));
    }
    let (current, surplus) = plan_revision(desired, observed, revisions, upstream, &mut steps);
    let in_use = current.upstream.clone();
    let (published, version) = plan_entry(desired, observed, installation, current, &mut steps);
    // Nobody waits for the end of old revisions, but everybody for the entry.
    steps.extend(surplus.into_iter().map(|name| AgentStep::Revision(RevisionStep::Delete { name })));
    if !published.allows_next_part() {
        let served =
            PartReport::new(Part::Served, PartState::Waiting, Reason::Pending, "an earlier part has to be ready first");
        return Plan { steps, reports: vec![accepted, published, served], awaits: None, wake_at: None };
    }
    let (served, mut awaits) = judge_served(version, None, observed.served, &observed.replicas);
    let mut wake_at = None;
    let unused = plan_unused(observed, in_use.as_deref());
    if served.state == PartState::Ready && !unused.is_empty() {
        match let_go(observed, installation, now) {
            Acknowledged::Everywhere => steps.extend(unused),
            Acknowledged::TimedOut(names) => {
                steps.extend(unused);
                steps.push(
                    ObjectStep::RecordEvent(replicas_timed_out(&names, "that a credential is no longer used")).into(),
                );
            }
            Acknowledged::Waiting(_, until) => (awaits, wake_at) = (Some(observed.last_reference.version), Some(until)),
        }
    }
    Plan { steps, reports: vec![accepted, published, served], awaits, wake_at }
}

fn hold(
    observed: &ObservedAgent,
    accepted: PartReport,
    state: PartState,
    reason: Reason,
    note: &str,
) -> Plan<AgentStep> {
    let published = PartReport::new(Part::Published, state, reason, note);
    let served =
        PartReport::new(Part::Served, PartState::Waiting, Reason::Pending, "an earlier part has to be ready first");
    // Put back where somebody took it off while there is something of ours.
    let lost = !observed.finalizer && matches!(observed.entry, Seen::Ours(_));
    let steps = if lost { vec![AgentStep::Object(ObjectStep::AddFinalizer)] } else { Vec::new() };
    Plan { steps, reports: vec![accepted, published, served], awaits: None, wake_at: None }
}

/// Whether an API key can stand in a header: printable ASCII (RFC 9110, 5.5).
fn fits_header(api_key: &[u8]) -> bool {
    api_key.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn plan_credential(
    desired: &DesiredAgent,
    observed: &ObservedAgent,
    steps: &mut Vec<AgentStep>,
) -> (PartReport, Option<String>) {
    let report = |state, reason, note: String| PartReport::new(Part::Accepted, state, reason, note);
    let fine = report(PartState::Ready, Reason::Accepted, "the spec is valid".to_owned());
    let Some(reference) = &desired.credential else { return (fine, None) };
    match &observed.credential {
        Seen::Ours(Credential { api_key, .. }) if !fits_header(api_key.expose()) => {
            let note = format!(
                "Secret '{}' with key '{}' has characters that an HTTP header can't contain, such as a line break",
                reference.name, reference.key
            );
            (report(PartState::Refused(ErrorClass::Waiting), Reason::CredentialNotFound, note), None)
        }
        Seen::Ours(Credential { hash, api_key }) => {
            if !observed.upstream_published {
                let entry = UpstreamEntry { format: FIRST_FORMAT, hash: hash.clone(), api_key: api_key.clone() };
                steps.push(UpstreamStep::Put(entry).into());
            }
            (fine, Some(hash.clone()))
        }
        Seen::Missing | Seen::Foreign(_) => {
            let note = format!("Secret '{}' with key '{}' does not exist or is empty", reference.name, reference.key);
            (report(PartState::Refused(ErrorClass::Waiting), Reason::CredentialNotFound, note), None)
        }
        Seen::Unknown(read_error) => {
            (report(PartState::Unread(read_error.class), Reason::Retrying, read_error.note.clone()), None)
        }
    }
}

/// The revision that should be served, and the names of those that are too old to be kept.
fn plan_revision(
    desired: &DesiredAgent,
    observed: &ObservedAgent,
    revisions: &[RevisionView],
    upstream: Option<String>,
    steps: &mut Vec<AgentStep>,
) -> (AgentRevision, Vec<String>) {
    let hash = behaviour_hash(&desired.behaviour);
    // The entry counts as well: numbers go on where the revisions were deleted by hand.
    let published = observed.entry.ours().and_then(|view| view.entry.as_ref());
    let published = published.map(|entry| (entry.current.number, &entry.current.hash));
    let newest = revisions.iter().map(|r| (r.number, &r.hash)).chain(published).max_by_key(|(number, _)| *number);
    let number = match newest {
        Some((number, newest)) if *newest == hash => number,
        Some((number, _)) => number.saturating_add(1),
        None => 1,
    };
    let kept = revisions.iter().any(|r| r.number == number && r.hash == hash);
    if !kept {
        let behaviour = Box::new(desired.behaviour.clone());
        steps.push(RevisionStep::Create { number, hash: hash.clone(), behaviour }.into());
    }
    let mut sorted: Vec<&RevisionView> = revisions.iter().collect();
    sorted.sort_by_key(|r| r.number);
    let surplus = (sorted.len() + usize::from(!kept)).saturating_sub(REVISION_HISTORY);
    let surplus = sorted.iter().take(surplus).map(|r| r.name.clone()).collect();
    (AgentRevision { number, hash, behaviour: desired.behaviour.clone(), upstream }, surplus)
}

fn plan_entry(
    desired: &DesiredAgent,
    observed: &ObservedAgent,
    installation: &Installation,
    current: AgentRevision,
    steps: &mut Vec<AgentStep>,
) -> (PartReport, Option<Version>) {
    let report = |state, reason, note: &str| PartReport::new(Part::Published, state, reason, note);
    let note = format!("the registry holds revision {}", current.number);
    let entry = AgentEntry {
        format: FIRST_FORMAT,
        uid: desired.object.uid.clone(),
        namespace: desired.object.namespace.clone(),
        name: desired.object.name.clone(),
        epoch: installation.epoch,
        current,
    };
    let replace = match &observed.entry {
        Seen::Missing => None,
        Seen::Ours(AgentEntryView { entry: Some(old), version, .. })
            if (AgentEntry { epoch: old.epoch, ..entry.clone() }) == *old =>
        {
            return (report(PartState::Ready, Reason::Published, &note), Some(*version));
        }
        Seen::Ours(view) => Some(view.version),
        Seen::Foreign(note) => return (report(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note), None),
        Seen::Unknown(read_error) => {
            return (report(PartState::Unread(read_error.class), Reason::Retrying, &read_error.note), None);
        }
    };
    steps.push(EntryStep::Put { entry: Box::new(entry), replace }.into());
    (report(PartState::InProgress, Reason::Published, &note), None)
}

fn let_go(observed: &ObservedAgent, installation: &Installation, now: Timestamp) -> Acknowledged {
    judge_acknowledged(observed.last_reference, &observed.replicas, installation.ack_timeout_seconds, now)
}

/// Deletes credential entries that nothing refers to any more but what is `in_use`.
fn plan_unused(observed: &ObservedAgent, in_use: Option<&str>) -> Vec<AgentStep> {
    let gone = observed.unused_upstreams.iter().filter(|(hash, _)| Some(hash.as_str()) != in_use);
    gone.map(|(hash, version)| AgentStep::Upstream(UpstreamStep::Delete { hash: hash.clone(), version: *version }))
        .collect()
}

/// Plans the deletion of an AgentConfig: never while a Tenant uses it, and entry by entry from the referring end. A
/// replica that does not answer is waited for as long as in the deletion of a Tenant, counted from when the last
/// reference went away, be that before or after the deletion began; then the deletion goes on without it, and an event names it.
pub fn plan_agent_deletion(observed: &ObservedAgent, installation: &Installation, now: Timestamp) -> Plan<AgentStep> {
    let report = |state, reason, note: String| PartReport::new(Part::DeletionBlocked, state, reason, note);
    match &observed.object {
        Presence::Cached | Presence::Gone => {}
        Presence::Alive => return Plan::nothing(Vec::new()),
        Presence::Unknown(read_error) => {
            return Plan::nothing(vec![report(
                PartState::Unread(read_error.class),
                Reason::Retrying,
                read_error.note.clone(),
            )]);
        }
    }
    // Without the finalizer nothing was made, or something is left of an object that is gone: that is cleared away.
    let nothing_left = matches!(observed.entry, Seen::Missing) && observed.unused_upstreams.is_empty();
    if !observed.finalizer && nothing_left {
        return Plan::nothing(Vec::new());
    }
    let release = observed.finalizer.then_some(AgentStep::Object(ObjectStep::RemoveFinalizer));
    if !observed.users.is_empty() {
        let note = format!("used by Tenant {}", observed.users.join(", "));
        return Plan::nothing(vec![report(PartState::Waiting, Reason::InUse, note)]);
    }
    let named = match let_go(observed, installation, now) {
        Acknowledged::Everywhere => None,
        Acknowledged::TimedOut(names) => {
            Some(AgentStep::Object(ObjectStep::RecordEvent(replicas_timed_out(&names, "the deletion"))))
        }
        Acknowledged::Waiting(names, until) => {
            let note = format!("waiting for {} to acknowledge the deletion", names.join(", "));
            let mut plan = Plan::nothing(vec![report(PartState::Waiting, Reason::WaitingForReplicas, note)]);
            (plan.awaits, plan.wake_at) = (Some(observed.last_reference.version), Some(until));
            return plan;
        }
    };
    match &observed.entry {
        Seen::Ours(view) => {
            let step = AgentStep::Entry(EntryStep::Delete { uid: view.secret_uid.clone(), version: view.version });
            let working =
                PartReport::new(Part::Ready, PartState::Waiting, Reason::Deleting, "the entry is being removed");
            // The credential goes in the next reconcile, when the replicas have acknowledged the deletion of the entry.
            let last = observed.unused_upstreams.is_empty() && !uses_upstream(view);
            let steps = std::iter::once(step).chain(release.filter(|_| last)).chain(named).collect();
            return Plan { steps, reports: vec![working], awaits: None, wake_at: Some(Timestamp::UNIX_EPOCH) };
        }
        Seen::Unknown(read_error) => {
            return Plan::nothing(vec![report(
                PartState::Unread(read_error.class),
                Reason::Retrying,
                read_error.note.clone(),
            )]);
        }
        Seen::Missing | Seen::Foreign(_) => {}
    }
    let mut steps = plan_unused(observed, None);
    // Once for each thing that is taken from it.
    let named = named.filter(|_| !steps.is_empty());
    steps.extend(release.into_iter().chain(named));
    let working =
        PartReport::new(Part::Ready, PartState::Waiting, Reason::Deleting, "the last parts are being removed");
    Plan { steps, reports: vec![working], awaits: None, wake_at: None }
}

fn uses_upstream(view: &AgentEntryView) -> bool {
    view.entry.as_ref().is_none_or(|e| e.current.upstream.is_some())
}
