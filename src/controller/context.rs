//! What everything that looks at objects shares.

use super::{scheduler::Scheduler, telemetry::OperatorMetrics};
use crate::{
    clock::Clock,
    effects::{kubernetes::fence::Fence, live::LiveWorld},
    plan::installation::Installation,
};
use std::sync::OnceLock;
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
    pub fence: Fence,
    /// The installation; the epoch in it is filled in for each pass.
    pub installation: Installation,
    /// Namespaces that are looked after; empty: all.
    pub watched: Vec<String>,
    /// Set when every first list is in.
    pub synced: OnceLock<()>,
    /// Turns true when a newer leader was met: the process has to end.
    pub fenced: watch::Sender<bool>,
}
