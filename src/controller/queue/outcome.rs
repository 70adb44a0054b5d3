//! The outcome of a reconcile.

use crate::{
    domain::{class::ErrorClass, ident::Version},
    effects::error::EffectError,
};
use jiff::Timestamp;

/// The outcome of a reconcile. It alone decides when the object is reconciled again.
#[derive(Debug, Default)]
pub struct ReconcileOutcome {
    /// The class of the decisive error: of a failed step, of a part that could not be read, or of a refusal.
    pub error_class: Option<ErrorClass>,
    /// The error of the failed step, for the log.
    pub error: Option<EffectError>,
    /// An acknowledgement of this entry version is awaited.
    pub awaits: Option<Version>,
    /// The object is reconciled again at this time.
    pub wake_at: Option<Timestamp>,
    /// Number of performed steps, including status and events.
    pub steps: usize,
    /// The database instance of the object, if the reconcile read one: `Some(None)` if it is not known because of
    /// unavailable instances.
    pub database: Option<Option<String>>,
    /// The object needs nothing more: it is ready, or deleted.
    pub settled: bool,
    /// The object needs no further reconcile: the finalizer was removed, or there was none.
    pub gone: bool,
}

impl ReconcileOutcome {
    /// Adds the result of writing status and events. Its error counts unless an earlier step failed.
    pub fn add_report(&mut self, done: usize, error: Option<EffectError>) {
        self.steps += done;
        if let Some(error) = error {
            self.settled = false;
            self.error_class.get_or_insert(error.class);
            self.error.get_or_insert(error);
        }
    }
}
