//! What the status of a Tenant is computed from.

use crate::{
    domain::ident::TenantId,
    plan::{
        Plan,
        installation::Installation,
        observed::ObservedTenant,
        step::{Execution, TenantStep},
    },
};

/// The facts of one reconcile of a Tenant.
#[derive(Clone, Copy)]
pub struct TenantFacts<'a> {
    /// Generation of the spec.
    pub generation: i64,
    /// The tenant's id, if it has a valid one.
    pub tenant_id: Option<&'a TenantId>,
    /// Name of the Secret with the keys.
    pub key_secret: &'a str,
    /// What was read; `None` if the object was refused before anything was read.
    pub observed: Option<&'a ObservedTenant>,
    /// The installation.
    pub installation: &'a Installation,
    /// What was planned.
    pub plan: &'a Plan<TenantStep>,
    /// How far it got.
    pub execution: &'a Execution<TenantStep>,
    /// The object is being deleted.
    pub deleting: bool,
}
