//! What has to change: `plan(intent, observed, installation, now) -> Plan`. Pure; no I/O, clock or randomness.
//!
//! `Unknown` never leads to a destructive step; something that was there and is gone never to a re-creation.

pub mod acks;
pub mod agent_config;
pub mod cells;
pub mod drift;
pub mod dry_run;
pub mod installation;
pub mod instance;
pub mod observed;
pub mod placement;
pub mod report;
pub mod step;
pub mod takeover_request;
pub mod tenant;

use crate::domain::ident::Version;
use report::PartReport;

/// The plan of one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// What to do, in order; the first failure ends the pass.
    pub steps: Vec<S>,
    /// How each part stands, given that the steps succeed.
    pub reports: Vec<PartReport>,
    /// An acknowledgement of this version (or of what the steps write) is awaited.
    pub awaits: Option<Version>,
    /// Look again at this time even if nothing happens.
    pub wake_at: Option<jiff::Timestamp>,
}

impl<S> Plan<S> {
    /// A plan that does nothing, for these reasons.
    pub fn nothing(reports: Vec<PartReport>) -> Self {
        Self { steps: Vec::new(), reports, awaits: None, wake_at: None }
    }
}
