//! The error of an effect: its class decides what follows, its text is for people, its source for the log.

use crate::{
    api::Reason,
    domain::class::ErrorClass,
    plan::{observed::ReadError, step::Failure},
};
use std::error::Error;

/// Why an effect failed. `Display` says this layer alone; `source` carries the rest. Holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct EffectError {
    /// Class: decides retry, condition, log level and metric.
    pub class: ErrorClass,
    /// What was tried and what came of it.
    pub what: String,
    /// The error below.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
    /// Leadership is lost; the process has to end.
    pub fenced: bool,
    /// The reason that a condition gives, where the class alone doesn't say it.
    pub reason: Option<Reason>,
}

impl EffectError {
    /// An error without one below.
    pub fn new(class: ErrorClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), source: None, fenced: false, reason: None }
    }

    /// An error with one below.
    pub fn from_source(class: ErrorClass, what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self { class, what: what.into(), source: Some(Box::new(source)), fenced: false, reason: None }
    }

    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut next = self.source();
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }

    /// What a plan sees of it.
    pub fn read_error(&self) -> ReadError {
        ReadError { reason: self.reason, ..ReadError::new(self.class, self.chain()) }
    }

    /// What a status may say of it.
    pub fn failure(&self) -> Failure {
        Failure { class: self.class, note: self.chain(), reason: self.reason }
    }
}
