//! How one part of an object stands, as the plan sees it: the source of one condition.

use crate::{
    api::{ConditionType, Reason},
    domain::class::ErrorClass,
};

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is as it should be.
    Holds,
    /// The steps of this plan make it so.
    Doing,
    /// Something else has to happen first.
    Waits,
    /// It can't be made so; the class says whether by itself or by a person.
    Refused(ErrorClass),
    /// It could not be read.
    Unseen(ErrorClass),
}

/// How one part stands, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition that tells it.
    pub part: ConditionType,
    /// How it stands.
    pub stand: Stand,
    /// Why; for `Doing` the reason once it is done.
    pub reason: Reason,
    /// A sentence for people.
    pub note: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(part: ConditionType, stand: Stand, reason: Reason, note: impl Into<String>) -> Self {
        Self { part, stand, reason, note: note.into() }
    }

    /// Whether steps that come after this part may run.
    pub fn lets_pass(&self) -> bool {
        matches!(self.stand, Stand::Holds | Stand::Doing)
    }
}

/// The reason for a database that could not be used, by the class of its error.
pub fn unseen_reason(class: ErrorClass) -> Reason {
    match class {
        ErrorClass::Denied => Reason::PermissionDenied,
        ErrorClass::Bug => Reason::InternalError,
        ErrorClass::Invalid | ErrorClass::Waiting | ErrorClass::Conflict | ErrorClass::Transient => {
            Reason::DatabaseUnavailable
        }
    }
}
