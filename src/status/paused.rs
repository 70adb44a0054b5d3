//! The conditions of an object with the annotation that pauses it: those from before, and that it is paused.

use super::conditions::{Wanted, condition, notices};
use crate::{
    api::{Condition, ConditionStatus, ConditionType, Notice, Reason, names},
    plan::report::{PartReport, PartState},
};
use jiff::Timestamp;

/// The conditions of a paused object, and one event when it is paused. The other conditions stay as they were: each names
/// the generation that it is about.
pub fn project_paused(
    previous: &[Condition],
    generation: i64,
    deleting: bool,
    now: Timestamp,
) -> (Vec<Condition>, Vec<Notice>) {
    let note = format!("annotation {}: the operator does not touch this object", names::PAUSED_ANNOTATION);
    let paused = |part| Wanted {
        status: ConditionStatus::True,
        ..Wanted::of_report(&PartReport::new(part, PartState::Ready, Reason::Paused, note.clone()))
    };
    let mut wanted = vec![paused(ConditionType::Paused)];
    if deleting {
        wanted.push(paused(ConditionType::DeletionBlocked));
    }
    let new_notices = notices(&wanted, previous);
    let ours = |c: &Condition| wanted.iter().any(|w| w.is(c));
    let mut conditions: Vec<Condition> = previous.iter().filter(|c| !ours(c)).cloned().collect();
    conditions.extend(wanted.into_iter().map(|w| condition(w, previous, generation, now)));
    (conditions, new_notices)
}
