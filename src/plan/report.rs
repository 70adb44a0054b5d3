//! The state of one part of an object in the plan: the source of one condition.

use crate::{
    api::{ConditionType, Reason},
    domain::class::ErrorClass,
};

/// The state of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// It is as it should be.
    Ready,
    /// The steps of this plan make it so.
    InProgress,
    /// Something else has to happen first.
    Waiting,
    /// It can't be made so; the class says whether by itself or by a person.
    Refused(ErrorClass),
    /// It could not be read.
    Unread(ErrorClass),
}

/// The state of one part, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// The condition that reports it.
    pub part: ConditionType,
    /// Its state.
    pub state: PartState,
    /// Why; for `InProgress` the reason once it is done.
    pub reason: Reason,
    /// A sentence for people.
    pub note: String,
}

impl PartReport {
    /// A report.
    pub fn new(part: ConditionType, state: PartState, reason: Reason, note: impl Into<String>) -> Self {
        Self { part, state, reason, note: note.into() }
    }

    /// Whether steps that come after this part may run.
    pub fn allows_next_part(&self) -> bool {
        matches!(self.state, PartState::Ready | PartState::InProgress)
    }
}
