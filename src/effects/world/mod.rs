//! The interface between plans and the outside world. Tests replace the world to crash before or after any step, or to lose
//! its reply.
//!
//! | file | what it does |
//! | --- | --- |
//! | `live` | the real world: the API server and the databases of the settings |
//! | `tenant`, `agent_config` | observing and changing what belongs to a Tenant or an AgentConfig |
//! | `placement` | finding the database of a Tenant, and reading the Tenant's data there |
//! | `logins` | the logins of the cells |
//! | `dry_run` | rendering what a step would send |

pub(crate) mod agent_config;
pub mod dry_run;
pub mod live;
pub(crate) mod logins;
pub(crate) mod placement;
pub(crate) mod tenant;

use super::error::EffectError;
use crate::api::{AgentConfigStatus, SecretKeyRef, TenantStatus};
use crate::{
    domain::{
        ident::{AgentName, ObjectId, TenantId, Uid, Version},
        keys::{Algorithm, Kid},
        resolve::Claimant,
    },
    plan::{
        observed::{EntryView, ObservedAgent, ObservedTenant, Recorded, Seen},
        step::{AgentStep, Done, ObjectStep, TenantStep},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

/// The object of a reconcile, and what the world has to know about it.
pub trait ReconcileScope: Send + Sync {
    /// What is observed before everything else, from memory.
    type First: Send;
    /// The observation of the world.
    type Observed: Send;
    /// The steps that change the world.
    type Step: Send + Sync + Clone + PartialEq + From<ObjectStep<Self::Status>>;
    /// The status of the object.
    type Status;
}

/// The outside world: everything that the operator observes and changes.
pub trait World<S: ReconcileScope>: Send + Sync {
    /// Observes what no outage may delay.
    fn observe_first(&self, scope: &S) -> S::First;

    /// Observes everything that matters for `scope`. Never fails: what can't be read is `Unknown`.
    fn observe(&self, scope: &S) -> impl Future<Output = S::Observed> + Send;

    /// Performs one step. It may be canceled at any await, repeated, or lose its reply: each step is idempotent, marks what it
    /// creates in the same request, and checks the mark before it changes or deletes anything.
    fn perform(&self, scope: &S, step: &S::Step) -> impl Future<Output = Result<Done, EffectError>> + Send;
}

/// A Tenant that is reconciled.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantScope {
    /// The object.
    pub object: ObjectId,
    /// Its claim to the tenant id: when it was created, whether it is being deleted.
    pub claim: Claimant,
    /// Its tenant id; `None` if it has no valid one.
    pub tenant_id: Option<TenantId>,
    /// The AgentConfigs it refers to, by the names of its agents.
    pub agents: BTreeMap<AgentName, String>,
    /// Finalizers of the object.
    pub finalizers: Vec<String>,
    /// What earlier reconciles recorded in the status.
    pub recorded: Recorded,
    /// Name of the Secret with its keys.
    pub key_secret: String,
    /// The database instance that its spec names.
    pub named: Option<String>,
    /// The observed database instance. Steps change the data there.
    pub instance: Option<String>,
    /// UID of the deleted Tenant that left the requested data.
    pub adopt: Option<Uid>,
    /// The keys that its annotation revokes.
    pub revoke: BTreeSet<Kid>,
    /// Algorithm of a new key.
    pub algorithm: Algorithm,
    /// The tenant is to be suspended.
    pub suspend: bool,
    /// The object seems to be deleted. The API server is asked, not the cache.
    pub vanished: bool,
    /// The instance and the cell that are offered to a new tenant are reserved for it. A dry run reserves nothing.
    pub reserve: bool,
}

impl ReconcileScope for TenantScope {
    type First = Seen<EntryView>;
    type Observed = ObservedTenant;
    type Step = TenantStep;
    type Status = TenantStatus;
}

/// An AgentConfig that is reconciled.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentScope {
    /// The object.
    pub object: ObjectId,
    /// Finalizers of the object.
    pub finalizers: Vec<String>,
    /// The Secret with the provider's API key.
    pub credential: Option<SecretKeyRef>,
    /// The entry version that is proved to be served.
    pub served: Option<Version>,
    /// The object seems to be deleted. The API server is asked, not the cache.
    pub vanished: bool,
}

impl ReconcileScope for AgentScope {
    type First = ();
    type Observed = ObservedAgent;
    type Step = AgentStep;
    type Status = AgentConfigStatus;
}
