//! The operator of one process: what it is made of. `run` opens its ports and leads.

use super::{
    context::ContextSlot,
    leadership::{
        election::Elector,
        identity::{Identity, PodIdentity},
    },
    metrics::OperatorMetrics,
    readiness::ProcessReadiness,
};
use crate::{
    clock::Clock,
    effects::{database::instances::Instances, kubernetes::fence::LeaseFence},
    settings::operator::OperatorSettings,
};
use kube::Client;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The operator of one process.
pub(super) struct Operator {
    pub(super) settings: OperatorSettings,
    pub(super) client: Client,
    pub(super) pod: PodIdentity,
    /// The namespace of the Leases.
    pub(super) namespace: String,
    pub(super) clock: Clock,
    pub(super) fence: LeaseFence,
    pub(super) instances: Instances,
    pub(super) metrics: OperatorMetrics,
    pub(super) readiness: ProcessReadiness,
    /// Set when this process leads.
    pub(super) context: ContextSlot,
    pub(super) elector: Arc<Elector>,
    /// Locks the identity.
    pub(super) _identity: Identity,
    /// The servers of health, metrics and the admin API. Dropping them ends the servers.
    pub(super) _servers: JoinSet<()>,
}
