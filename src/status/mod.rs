//! What we tell the user: conditions and events, computed from the facts of this pass alone.
//!
//! The previous status serves for two things only: to keep `lastTransitionTime`, and to tell an event once.

mod agent;
mod conditions;
mod facts;
mod instance;
mod keys;
mod paused;
mod tenant;

pub use agent::{AgentFacts, project_agent};
pub use conditions::find;
pub use facts::TenantFacts;
pub use instance::{FleetView, InstanceState, InstanceView, project_instance};
pub use paused::project_paused;
pub use tenant::{project_deeds, project_tenant};

use crate::domain::resolve::Violation;
use crate::{
    api::{ConditionType, Reason},
    domain::class::ErrorClass,
    plan::report::{PartReport, PartState},
};

/// The verdicts of a pass whose object was refused before anything was looked at. Parts without a verdict keep what
/// the last pass said of them: the last good state stays in place.
pub fn project_rejection(violations: &[Violation]) -> Vec<PartReport> {
    let note = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    vec![PartReport::new(ConditionType::Accepted, PartState::Refused(ErrorClass::Invalid), Reason::InvalidSpec, note)]
}

/// The verdicts of a pass whose object does not decode.
pub fn project_unreadable(error: &str) -> Vec<PartReport> {
    vec![PartReport::new(
        ConditionType::Accepted,
        PartState::Refused(ErrorClass::Invalid),
        Reason::UnreadableSpec,
        error,
    )]
}
