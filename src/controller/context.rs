//! The state that workers, watches and background tasks share.

use super::{metrics::OperatorMetrics, queue::scheduler::Scheduler};
use crate::{
    clock::Clock,
    domain::{custom_migrations::CustomMigrations, ident::Epoch},
    effects::{
        database::instances::Instances, error::EffectError, kubernetes::fence::LeaseFence, world::live::LiveWorld,
    },
    plan::installation::Installation,
    status::FleetView,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;

/// The context of the leader; empty until this process leads.
pub(super) type ContextSlot = Arc<OnceLock<Arc<OperatorContext>>>;

/// Reads the gauges each time the metrics are rendered.
pub(super) fn collector(
    metrics: &OperatorMetrics,
    instances: &Instances,
    fence: &LeaseFence,
    context: &ContextSlot,
) -> impl Fn() + Send + Sync + 'static {
    let (own, instances, fence, context) = (metrics.clone(), instances.clone(), fence.clone(), Arc::clone(context));
    move || {
        own.leader.set(i64::from(fence.is_leader()));
        own.epoch.set(i64::from(fence.epoch()));
        for breaker in instances.breakers() {
            own.record_database(breaker.name(), breaker.is_closed(), breaker.database.round_trips());
        }
        if let Some(context) = context.get() {
            own.waiting.set(i64::try_from(context.scheduler.waiting()).unwrap_or(i64::MAX));
            own.record_objects("tenant", context.world.tenants.cache.len());
            own.record_objects("agentconfig", context.world.agents.cache.len());
            let ready = context.world.replica_tracker.observe().all.iter().filter(|r| r.ready).count();
            own.replicas.set(i64::try_from(ready).unwrap_or(i64::MAX));
        }
    }
}

/// The state that workers, watches and background tasks share.
pub(crate) struct OperatorContext {
    /// The world.
    pub world: LiveWorld,
    /// The queue.
    pub scheduler: Scheduler,
    /// Metrics.
    pub metrics: OperatorMetrics,
    /// Time.
    pub clock: Clock,
    /// Leadership.
    pub fence: LeaseFence,
    /// The installation. [`OperatorContext::installation_now`] fills in the parts that change.
    pub installation: Installation,
    /// The custom migrations; `None` if there are none, or they have not been read yet.
    pub custom_migrations: watch::Sender<Option<CustomMigrations>>,
    /// Progress of the migrations, by database.
    pub fleet: watch::Sender<BTreeMap<String, FleetView>>,
    /// Namespaces of the managed objects; empty: all.
    pub watched: Vec<String>,
    /// Set when every watch has its first list.
    pub synced: OnceLock<()>,
    /// Changes when the cells' logins have to be read.
    pub logins_changed: watch::Sender<u64>,
    /// Turns true when a newer leader exists: the process has to end.
    pub fenced: watch::Sender<bool>,
}

impl OperatorContext {
    /// Ends this leadership if an error says that a newer leader exists.
    pub(crate) fn note_fencing(&self, error: &EffectError) {
        if error.fenced {
            self.fenced.send_replace(true);
        }
    }

    /// The current installation, for a reconcile that starts now.
    pub(crate) fn installation_now(&self) -> Installation {
        let custom_migrations = self.custom_migrations.borrow().clone();
        Installation { epoch: Epoch(self.fence.epoch()), custom_migrations, ..self.installation.clone() }
    }
}
