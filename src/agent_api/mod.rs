//! The shared, multi-tenant agent API.
//!
//! ```text
//! http ──> auth ──> registry snapshot
//!   └────> database (T1) ──> provider ──> database (T2)
//! registry source ──> follow ──> snapshot, acknowledge
//! ```

pub mod acknowledge;
pub mod auth;
pub mod database;
pub mod effective;
#[cfg(test)]
mod fixtures;
pub mod http;
mod json;
pub mod metrics;
pub mod problem;
pub mod provider;
pub mod registry;
mod request_id;
pub mod serve;
pub mod storage;

use crate::{clock::Clock, settings::agent_api::AgentApiSettings};
use database::{Database, Pool};
use metrics::ApiMetrics;
use provider::Upstreams;
use registry::{Cell, follow::Registry, follow::TryLogin};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// What requests work with.
pub struct Context {
    /// Settings.
    pub settings: AgentApiSettings,
    /// Time.
    pub clock: Clock,
    /// The served registry.
    pub registry: Registry,
    /// Tenants' data.
    pub database: Database,
    /// Providers.
    pub upstreams: Upstreams,
    /// Metrics.
    pub metrics: Arc<ApiMetrics>,
    /// Work that outlives its request; a graceful stop waits for it.
    pub tasks: TaskTracker,
    /// One permit per chat call at once.
    pub chats: Arc<Semaphore>,
}

impl Context {
    /// Everything a server needs, without a registry source yet.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(settings: AgentApiSettings, clock: Clock) -> Result<Arc<Self>, reqwest::Error> {
        let tasks = TaskTracker::new();
        let pool = Pool::new(settings.database.clone(), clock.clone());
        Ok(Arc::new(Self {
            registry: Registry::new(clock.clone()),
            database: Database::new(pool, tasks.clone()),
            upstreams: Upstreams::new(settings.limits.upstream_bytes)?,
            metrics: Arc::new(ApiMetrics::new()),
            chats: Arc::new(Semaphore::new(settings.limits.concurrent_chats)),
            tasks,
            clock,
            settings,
        }))
    }

    /// How the follower tries a cell's login.
    pub fn login(&self) -> TryLogin {
        let pool = Arc::clone(self.database.pool());
        Arc::new(move |entry| {
            let pool = Arc::clone(&pool);
            let cell = Cell { name: String::new(), version: crate::domain::ident::Version::default(), entry };
            Box::pin(async move {
                let failed = |error| format!("{}", crate::telemetry::Chain(&error));
                pool.try_login(&cell).await.map_err(failed)
            })
        })
    }
}
