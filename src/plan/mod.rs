//! What has to change: `plan(intent, observed, installation, now) -> Plan`. Pure; no I/O, clock or randomness.
//!
//! `Unknown` never leads to a destructive step; something that was there and is gone never to a re-creation.

mod acceptance;
pub mod acks;
mod adopt;
pub mod agent;
pub mod applied;
pub mod cells;
mod database;
pub mod delete;
mod drain;
pub mod drift;
mod entry;
pub mod headroom;
pub mod heir;
mod home;
mod inputs;
pub mod installation;
pub mod instance;
mod keys;
pub mod ledger;
pub mod logins;
pub mod loss;
pub mod observed;
mod origin;
pub mod permission;
pub mod place;
pub mod progress;
mod recorded;
pub mod refusal;
pub mod rehearsal;
pub mod rollout;
pub mod schema;
mod seen;
pub mod step;
mod suspend;
mod takeover;
pub mod tenant;
pub mod unplaced;
pub mod upkeep;
pub mod verdict;

use crate::domain::ident::Version;
use verdict::Verdict;

/// The plan of one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// What to do, in order; the first failure ends the pass.
    pub steps: Vec<S>,
    /// How each part stands, given that the steps succeed.
    pub verdicts: Vec<Verdict>,
    /// An acknowledgement of this version (or of what the steps write) is awaited.
    pub awaits: Option<Version>,
    /// Look again at this time even if nothing happens.
    pub wake_at: Option<jiff::Timestamp>,
}

impl<S> Plan<S> {
    /// A plan that does nothing, for these reasons.
    pub fn nothing(verdicts: Vec<Verdict>) -> Self {
        Self { steps: Vec::new(), verdicts, awaits: None, wake_at: None }
    }
}
