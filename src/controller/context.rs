//! The state that workers, watches and background tasks share.

use super::{metrics::OperatorMetrics, queue::scheduler::Scheduler};
use crate::{
    clock::Clock,
    domain::{custom_migrations::CustomMigrations, ident::Epoch},
    effects::{error::EffectError, kubernetes::fence::LeaseFence, world::live::LiveWorld},
    plan::installation::Installation,
    status::FleetView,
};
use std::{collections::BTreeMap, sync::OnceLock};
use tokio::sync::watch;

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
