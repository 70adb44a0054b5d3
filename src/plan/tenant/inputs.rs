//! What the plan of a Tenant that should exist is made from.

use crate::{
    domain::resolve::DesiredTenant,
    plan::{installation::Installation, observed::ObservedTenant},
};
use jiff::Timestamp;

/// What the plan of a Tenant that should exist is made from.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// What its spec asks for.
    pub desired: &'a DesiredTenant,
    /// What was read.
    pub observed: &'a ObservedTenant,
    /// The installation.
    pub installation: &'a Installation,
    /// The time.
    pub now: Timestamp,
}
