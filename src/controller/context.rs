//! What everything that looks at objects shares.

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

/// What workers share.
pub struct Context {
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
    /// The installation; what changes of it is filled in by [`Context::installation_now`].
    pub installation: Installation,
    /// The platform team's own migrations; `None` where there are none, or they were not read yet.
    pub own: watch::Sender<Option<CustomMigrations>>,
    /// How far the tenants' tables are, by database.
    pub fleet: watch::Sender<BTreeMap<String, FleetView>>,
    /// Namespaces that are looked after; empty: all.
    pub watched: Vec<String>,
    /// Set when every first list is in.
    pub synced: OnceLock<()>,
    /// Rung when the cells' logins have to be looked at.
    pub logins_changed: watch::Sender<u64>,
    /// Turns true when a newer leader was met: the process has to end.
    pub fenced: watch::Sender<bool>,
}

impl Context {
    /// Ends this leadership where an error says that there is a newer one.
    pub fn note_fencing(&self, error: &EffectError) {
        if error.fenced {
            self.fenced.send_replace(true);
        }
    }

    /// The installation as a pass that begins now finds it.
    pub fn installation_now(&self) -> Installation {
        let custom_migrations = self.own.borrow().clone();
        Installation { epoch: Epoch(self.fence.epoch()), custom_migrations, ..self.installation.clone() }
    }
}
