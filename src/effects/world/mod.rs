//! The one seam between decisions and the world, so that a test can crash before, after, or after-with-the-reply-lost
//! at any step.

pub(crate) mod agent_config;
pub mod dry_run;
pub mod live;
pub(crate) mod logins;
pub(crate) mod placement;
pub(crate) mod tenant;

use super::error::EffectError;
use crate::api::SecretKeyRef;
use crate::{
    domain::{
        ident::{AgentName, ObjectId, TenantId, Uid, Version},
        keys::Algorithm,
        resolve::Claimant,
    },
    plan::{
        observed::{ObservedAgent, ObservedTenant, Recorded},
        step::{AgentStep, Done, TenantStep},
    },
};
use std::{collections::BTreeMap, future::Future};

/// What a pass is about: which object, and what of it the world needs to know to look around.
pub trait ReconcileScope: Send + Sync {
    /// What a look at the world yields.
    type Observed: Send;
    /// What can be done to it.
    type Step: Send + Sync + Clone;
}

/// The world as the operator can see and change it.
pub trait World<S: ReconcileScope>: Send + Sync {
    /// Looks at everything that matters for `scope`. Never fails: what can't be read is `Unknown`.
    fn observe(&self, scope: &S) -> impl Future<Output = S::Observed> + Send;

    /// Does one step. May be cut off at any await, may be repeated, may lose its reply: each step is idempotent, marks
    /// what it makes in the same request, and checks the mark before it changes or removes anything.
    fn perform(&self, scope: &S, step: &S::Step) -> impl Future<Output = Result<Done, EffectError>> + Send;
}

/// A Tenant in a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantScope {
    /// The object.
    pub object: ObjectId,
    /// The claim it makes: when it was created, whether it is being deleted.
    pub claim: Claimant,
    /// Its tenant id; `None` if it has no valid one.
    pub tenant_id: Option<TenantId>,
    /// The AgentConfigs it refers to, by its own names.
    pub agents: BTreeMap<AgentName, String>,
    /// Finalizers on the object.
    pub finalizers: Vec<String>,
    /// What earlier passes recorded.
    pub recorded: Recorded,
    /// Name of the Secret with its keys.
    pub key_secret: String,
    /// The database instance that its spec names.
    pub named: Option<String>,
    /// The instance that was looked at in this pass: its changes go there.
    pub home: Option<String>,
    /// The deleted Tenant whose data it asks for.
    pub adopt: Option<Uid>,
    /// How a new key would sign.
    pub algorithm: Algorithm,
    /// It is to be out of service.
    pub suspend: bool,
    /// The object is taken for gone: whether it is has to be asked, not in a cache.
    pub vanished: bool,
}

impl ReconcileScope for TenantScope {
    type Observed = ObservedTenant;
    type Step = TenantStep;
}

/// An AgentConfig in a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentScope {
    /// The object.
    pub object: ObjectId,
    /// Finalizers on the object.
    pub finalizers: Vec<String>,
    /// The Secret that holds the provider's key.
    pub credential: Option<SecretKeyRef>,
    /// The entry version whose serving was proved.
    pub served: Option<Version>,
    /// The object is taken for gone: whether it is has to be asked, not in a cache.
    pub vanished: bool,
}

impl ReconcileScope for AgentScope {
    type Observed = ObservedAgent;
    type Step = AgentStep;
}
