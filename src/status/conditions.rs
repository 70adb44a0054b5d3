//! From part reports to `metav1.Condition`s, as kubectl, kstatus (Flux, Helm) and Argo CD read them: provisioning is
//! `Ready=Unknown` with `Reconciling=True`, a retryable failure `Ready=False`, a terminal one `Ready=False` with
//! `Stalled=True`.

use crate::{
    api::{Condition, ConditionStatus as Status, ConditionType, Notice, NoticeKind, Reason},
    domain::{class::ErrorClass, time::whole_seconds},
    plan::{
        report::{PartReport, PartState},
        step::{Failure, ObjectStep},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Longest message that is written; the CRD allows 4096 characters.
const MAX_MESSAGE: usize = 1024;

/// One condition before it meets the previous ones.
pub(super) struct Wanted {
    pub type_: ConditionType,
    pub status: Status,
    pub reason: Reason,
    pub message: String,
    /// Manual intervention is required.
    pub terminal: bool,
}

/// What the conditions of an object are computed from.
pub(super) struct Sources<'a> {
    /// The parts of this kind of object, in order.
    pub parts: &'a [ConditionType],
    /// The part reports of this reconcile.
    pub reports: &'a [PartReport],
    /// The failure of a step, and the part that it belongs to.
    pub failed: Option<(ConditionType, &'a Failure)>,
    /// The conditions that are there.
    pub previous: &'a [Condition],
    /// Generation of the spec.
    pub generation: i64,
    /// The object is being deleted.
    pub deleting: bool,
}

/// The condition of a type, if it is there.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Computes all conditions, and the events for what changed.
pub(super) fn project(sources: &Sources<'_>, now: Timestamp) -> (Vec<Condition>, Vec<Notice>) {
    let parts = project_parts(sources);
    let blocked = project_blocked(sources);
    let ready = summarise(&parts, blocked.as_ref(), sources);
    let summary = project_kstatus(&ready);
    let wanted: Vec<Wanted> = parts.into_iter().chain([ready]).chain(summary).chain(blocked).collect();
    let notices = notices(&wanted, sources.previous);
    (wanted.into_iter().map(|w| condition(w, sources.previous, sources.generation, now)).collect(), notices)
}

/// One condition for each part: of its failed step, of its report, or as it was.
fn project_parts(sources: &Sources<'_>) -> Vec<Wanted> {
    let mut parts: Vec<Wanted> = Vec::new();
    let mut after_failure = false;
    let failed_at = |part| sources.failed.is_some_and(|(failed, _)| failed == part);
    // `Suspended` is shown only while it applies.
    let suspended = ConditionType::Suspended;
    let applies = failed_at(suspended) || sources.reports.iter().any(|v| v.part == suspended);
    for &part in sources.parts.iter().chain(applies.then_some(&suspended)) {
        let report = sources.reports.iter().find(|v| v.part == part);
        let wanted = match (sources.failed, report) {
            (Some((failed, failure)), _) if failed == part => {
                after_failure = true;
                failed_part(part, failure)
            }
            (_, Some(report)) if !(after_failure && counts_on_steps(report)) => Wanted::of_report(report),
            (_, Some(_)) => unreached(part),
            (_, None) => match find(sources.previous, part) {
                Some(kept) => keep(part, kept),
                None => unreached(part),
            },
        };
        parts.push(wanted);
    }
    parts
}

/// `DeletionBlocked`, while something blocks the deletion. Here `True` is the bad state.
fn project_blocked(sources: &Sources<'_>) -> Option<Wanted> {
    let blocked = match sources.failed {
        Some((ConditionType::DeletionBlocked, failure)) => failed_part(ConditionType::DeletionBlocked, failure),
        _ => Wanted::of_report(sources.reports.iter().find(|v| v.part == ConditionType::DeletionBlocked)?),
    };
    Some(Wanted { status: Status::True, ..blocked })
}

/// `Reconciling` or `Stalled`, as kstatus reads them, while the object is not ready.
fn project_kstatus(ready: &Wanted) -> Option<Wanted> {
    let (type_, reason) = match (ready.terminal, ready.status) {
        (true, _) => (ConditionType::Stalled, ready.reason),
        (false, Status::True) => return None,
        (false, Status::False | Status::Unknown) if ready.reason == Reason::Retrying => {
            (ConditionType::Reconciling, Reason::Retrying)
        }
        (false, Status::False | Status::Unknown) => (ConditionType::Reconciling, Reason::Progressing),
    };
    let (message, terminal) = (ready.message.clone(), ready.terminal);
    Some(Wanted { type_, status: Status::True, reason, message, terminal })
}

/// Whether a report is true only if the steps before it succeed.
fn counts_on_steps(report: &PartReport) -> bool {
    let after_the_steps = matches!(report.part, ConditionType::Served | ConditionType::Suspended);
    report.state == PartState::InProgress || (report.state == PartState::Waiting && after_the_steps)
}

impl Wanted {
    pub(super) fn of_report(report: &PartReport) -> Self {
        let (status, terminal) = match report.state {
            PartState::Ready | PartState::InProgress => (Status::True, false),
            PartState::Waiting => (Status::Unknown, false),
            PartState::Refused(class) => (Status::False, is_terminal(class)),
            PartState::Unread(_) => (Status::Unknown, false),
        };
        Self { type_: report.part, status, reason: report.reason, message: report.note.clone(), terminal }
    }

    /// Whether a condition is of its type.
    pub(super) fn is(&self, condition: &Condition) -> bool {
        condition.type_ == self.type_.as_str()
    }
}

/// Whether manual intervention is required.
fn is_terminal(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Invalid | ErrorClass::Conflict => true,
        ErrorClass::Waiting | ErrorClass::Transient | ErrorClass::Denied | ErrorClass::Bug => false,
    }
}

/// The condition that shows the failure of a step on the object itself.
pub(super) fn part_of_object<S>(step: &ObjectStep<S>) -> ConditionType {
    match step {
        ObjectStep::AddFinalizer => ConditionType::Accepted,
        ObjectStep::RemoveFinalizer => ConditionType::DeletionBlocked,
        ObjectStep::WriteStatus(_) | ObjectStep::RecordEvent(_) => ConditionType::Ready,
    }
}

fn failed_part(part: ConditionType, failure: &Failure) -> Wanted {
    let by_class = match failure.class {
        ErrorClass::Invalid => Reason::InvalidSpec,
        ErrorClass::Waiting => Reason::Progressing,
        ErrorClass::Conflict => Reason::Conflict,
        ErrorClass::Transient => Reason::Retrying,
        ErrorClass::Denied => Reason::PermissionDenied,
        ErrorClass::Bug => Reason::InternalError,
    };
    let reason = failure.reason.unwrap_or(by_class);
    let status = if failure.class == ErrorClass::Waiting { Status::Unknown } else { Status::False };
    Wanted { type_: part, status, reason, message: failure.note.clone(), terminal: is_terminal(failure.class) }
}

fn unreached(part: ConditionType) -> Wanted {
    let message = "an earlier part has to be ready first".to_owned();
    Wanted { type_: part, status: Status::Unknown, reason: Reason::Pending, message, terminal: false }
}

fn keep(part: ConditionType, kept: &Condition) -> Wanted {
    let status =
        [Status::True, Status::False].into_iter().find(|s| s.as_str() == kept.status).unwrap_or(Status::Unknown);
    let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == kept.reason).unwrap_or(Reason::Pending);
    Wanted { type_: part, status, reason, message: kept.message.clone(), terminal: false }
}

/// `Ready`: true if every part is; otherwise with the reason of the first part that is not, False before Unknown.
fn summarise(parts: &[Wanted], blocked: Option<&Wanted>, sources: &Sources<'_>) -> Wanted {
    let ready = |status, reason, message: String, terminal| Wanted {
        type_: ConditionType::Ready,
        status,
        reason,
        message,
        terminal,
    };
    if sources.deleting {
        let note = sources.reports.iter().find(|v| v.part == ConditionType::Ready).map(|v| v.note.clone());
        let message =
            blocked.map(|b| b.message.clone()).or(note).unwrap_or_else(|| "the object is being deleted".to_owned());
        return ready(Status::Unknown, Reason::Deleting, message, false);
    }
    let first_with = |status| parts.iter().find(|p| p.status == status);
    match first_with(Status::False).or_else(|| first_with(Status::Unknown)) {
        None => match parts.iter().find(|p| p.type_ == ConditionType::Suspended) {
            Some(suspended) => ready(Status::True, Reason::Suspended, suspended.message.clone(), false),
            None => ready(Status::True, Reason::Ready, "all conditions are met".to_owned(), false),
        },
        Some(first) => {
            let terminal = parts.iter().any(|p| p.terminal);
            // What could not be read is a failure that is retried; the rest of Unknown is work under way.
            let read_error =
                sources.reports.iter().any(|v| v.part == first.type_ && matches!(v.state, PartState::Unread(_)));
            let status = if first.status == Status::False || read_error { Status::False } else { Status::Unknown };
            ready(status, first.reason, format!("{}: {}", first.type_, first.message), terminal)
        }
    }
}

pub(super) fn condition(wanted: Wanted, previous: &[Condition], generation: i64, now: Timestamp) -> Condition {
    let since = find(previous, wanted.type_)
        .filter(|c| c.status == wanted.status.as_str())
        .map(|c| c.last_transition_time.clone());
    Condition {
        type_: wanted.type_.as_str().to_owned(),
        status: wanted.status.as_str().to_owned(),
        reason: wanted.reason.as_str().to_owned(),
        message: shorten(&wanted.message),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
    }
}

pub(super) fn shorten(text: &str) -> String {
    if text.chars().count() <= MAX_MESSAGE {
        return text.to_owned();
    }
    text.chars().take(MAX_MESSAGE - 1).chain(['…']).collect()
}

/// Events for the changes that matter to users: the object became ready, or it failed in a new way.
pub(super) fn notices(wanted: &[Wanted], previous: &[Condition]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for now in wanted {
        let before = find(previous, now.type_);
        let changed = before.is_none_or(|b| b.status != now.status.as_str() || b.reason != now.reason.as_str());
        let kind = match (now.type_, now.status) {
            (ConditionType::Ready | ConditionType::Paused, Status::True) => NoticeKind::Normal,
            (ConditionType::Ready, Status::False) | (ConditionType::DeletionBlocked, Status::True) => {
                NoticeKind::Warning
            }
            (ConditionType::Available | ConditionType::TablesCurrent | ConditionType::Headroom, Status::False) => {
                NoticeKind::Warning
            }
            // `Ready` shows the error of the spec first, so it does not show this one.
            (ConditionType::Published, Status::False) if now.reason == Reason::EntryChanged => NoticeKind::Warning,
            _ => continue,
        };
        if changed {
            notices.push(Notice { kind, reason: now.reason, note: shorten(&now.message) });
        }
    }
    notices
}
