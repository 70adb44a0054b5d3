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
mod memory;
pub mod metrics;
pub mod problem;
pub mod provider;
pub mod registry;
mod request_id;
pub mod serve;
pub mod shares;
pub mod storage;
pub mod turns;

use crate::{api::AgentTimeouts, clock::Clock, settings::agent_api::AgentApiSettings};
use database::{Pool, TenantDatabases};
use metrics::ApiMetrics;
use provider::{Upstreams, UpstreamsError};
use registry::{Cell, follow::ServedRegistry, follow::TryLogin};
use shares::Shares;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// Why a process can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Providers can't be called.
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
    /// There is too little memory.
    #[error("{0}")]
    Memory(String),
}

/// What requests work with.
pub struct Context {
    /// Settings.
    pub settings: AgentApiSettings,
    /// Time.
    pub clock: Clock,
    /// The served registry.
    pub registry: ServedRegistry,
    /// Tenants' data.
    pub database: TenantDatabases,
    /// Providers.
    pub upstreams: Upstreams,
    /// Metrics.
    pub metrics: Arc<ApiMetrics>,
    /// Work that outlives its request; a graceful stop waits for it.
    pub tasks: TaskTracker,
    /// Slots for chat calls.
    pub chats: Arc<Shares>,
    /// Bytes that requests hold in memory.
    pub bytes: Arc<Shares>,
}

impl Context {
    /// Everything a server needs, without a registry source yet.
    ///
    /// # Errors
    /// When providers can't be called, or the memory limit leaves too little for requests.
    pub fn new(settings: AgentApiSettings, clock: Clock) -> Result<Arc<Self>, ContextError> {
        let limits = &settings.limits;
        let memory = memory::observe_limit(limits.memory_mebibytes);
        let connections = settings.http.max_connections + settings.database.connection_budget;
        let bytes = memory::resolve_budget(memory, connections).map_err(ContextError::Memory)?;
        let share = |total| shares::part_of(total, limits.tenant_share_percent);
        let tasks = TaskTracker::new();
        let pool = Pool::new(settings.database.clone(), clock.clone());
        Ok(Arc::new(Self {
            registry: ServedRegistry::new(clock.clone()),
            database: TenantDatabases::new(pool, tasks.clone()),
            upstreams: Upstreams::new(&settings.upstream)?,
            metrics: Arc::new(ApiMetrics::new()),
            chats: Shares::new(limits.concurrent_chats, share(limits.concurrent_chats)),
            bytes: Shares::new(bytes, share(bytes)),
            tasks,
            clock,
            settings,
        }))
    }

    /// After how long a question that is still pending has no answer to expect, in seconds: the longest call that an
    /// AgentConfig may allow, and as long as storing its outcome is retried.
    pub fn abandoned_seconds(&self) -> i64 {
        let storing = i64::try_from(self.settings.http.drain_seconds).unwrap_or(i64::MAX / 2);
        i64::from(AgentTimeouts::TOTAL_SECONDS.max) + storing + 60
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
