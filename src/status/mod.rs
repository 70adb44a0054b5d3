//! Conditions and events, computed from the facts of this reconcile alone. The previous status only keeps
//! `lastTransitionTime`, and prevents repeated events.
//!
//! | file | what is there |
//! | --- | --- |
//! | `tenant`, `keys`, `facts` | the status of a Tenant, and what it is computed from |
//! | `agent` | the status of an AgentConfig |
//! | `instance` | the status of a DatabaseInstance |
//! | `paused` | the conditions of a paused object |
//! | `conditions` | from part reports to conditions |

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

/// The reports of a reconcile of an object that was refused before anything was read. Parts without a report keep their
/// conditions: the last good state stays in place.
pub fn project_rejection(violations: &[Violation]) -> Vec<PartReport> {
    let note = violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    vec![PartReport::new(ConditionType::Accepted, PartState::Refused(ErrorClass::Invalid), Reason::InvalidSpec, note)]
}

/// The reports of a reconcile of an object that does not decode.
pub fn project_unreadable(error: &str) -> Vec<PartReport> {
    vec![PartReport::new(
        ConditionType::Accepted,
        PartState::Refused(ErrorClass::Invalid),
        Reason::UndecodableSpec,
        error,
    )]
}
