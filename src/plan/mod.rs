//! What has to change: `plan(intent, observed, installation, now) -> Plan`. Pure; no I/O, clock or randomness.
//!
//! `Unknown` never leads to a destructive step; lost data never leads to a re-creation.
//!
//! | module | what is there |
//! | --- | --- |
//! | `tenant` | the plan of a Tenant |
//! | `agent_config` | the plan of an AgentConfig |
//! | `instance` | what a database instance needs: preflight, capacity, logins, rollouts |
//! | `placement`, `cells` | which instance and cell a tenant goes to |
//! | `takeover_request` | checks of a request to take over a lost cluster's tenant |
//! | `drift` | changes that somebody made in the database, and their repair |
//! | `acks` | which replicas have to acknowledge what |
//! | `observed` | what a reconcile read |
//! | `report` | the state of one part of an object |
//! | `step` | the closed lists of steps |
//! | `dry_run` | steps in words, for `kubectl tenant plan` |
//! | `installation` | settings that plans depend on |

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

/// The plan of one reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// What to do, in order; the first failure ends the reconcile.
    pub steps: Vec<S>,
    /// The state of each part, given that the steps succeed.
    pub reports: Vec<PartReport>,
    /// An acknowledgement of this version (or of what the steps write) is awaited.
    pub awaits: Option<Version>,
    /// Requeue at this time, even if no event comes.
    pub wake_at: Option<jiff::Timestamp>,
}

impl<S> Plan<S> {
    /// A plan that does nothing, for these reasons.
    pub fn nothing(reports: Vec<PartReport>) -> Self {
        Self { steps: Vec::new(), reports, awaits: None, wake_at: None }
    }
}
