//! How far a plan got.

use super::step::Done;
use crate::{api::Reason, domain::class::ErrorClass};

/// The steps that were done, and the one that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution<S> {
    /// Done, in order.
    pub done: Vec<(S, Done)>,
    /// The step that failed; later ones were not tried.
    pub failed: Option<(S, Failure)>,
}

impl<S> Default for Execution<S> {
    fn default() -> Self {
        Self { done: Vec::new(), failed: None }
    }
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Class of the error.
    pub class: ErrorClass,
    /// The error for people; holds no secret.
    pub note: String,
    /// The reason that a condition gives, where the class alone doesn't say it.
    pub reason: Option<Reason>,
}
