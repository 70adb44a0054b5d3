//! Postgres: one [`Database`] per instance of the settings.
//!
//! | file | what it does |
//! | --- | --- |
//! | `pool`, `error` | connections, and the classes of errors |
//! | `instance` | preflight checks, control schema, epoch |
//! | `render/` | the SQL of every step, as a pure function of the step |
//! | `perform`, `session` | performing a step: sending its SQL, and handling the result |
//! | `cells`, `allocator` | counting the tenants of each cell, and choosing the cell of a new tenant |
//! | `cell_facts` | whether the cells can work, and repairing them |
//! | `logins` | rotating the logins of a cell |
//! | `ledger`, `access` | reading the state of one tenant, in one round trip |
//! | `residents` | the tenant ids with data in the database, in one round trip |
//! | `read_batcher` | reading several tenants in one round trip |
//! | `drift` | finding the tenants with drift, in one round trip |
//! | `fleet` | the progress of migrations, in one round trip |
//! | `capacity` | the server's limits |
//! | `archive` | finding and dropping expired archives |
//! | `takeover` | recording takeover grants |

mod access;
mod allocator;
mod archive;
mod capacity;
mod cell_facts;
mod cells;
mod drift;
mod error;
mod fleet;
mod instance;
mod ledger;
mod logins;
mod perform;
mod pool;
mod read_batcher;
mod render;
mod residents;
mod session;
mod takeover;

pub use archive::{DueArchive, DueArchives};
pub use error::{PgError, PgErrorKind};
pub use ledger::ReadPurpose;
pub use render::CellLogin;

use crate::{
    domain::ident::{DatabaseId, Epoch},
    settings::database::InstanceSettings,
};
use allocator::Allocator;
use pool::{ConnectionPool, ConnectionRole};
use read_batcher::ReadBatcher;
use render::{Server, Statements};
use sqlx::postgres::PgRow;
use std::sync::Arc;

/// Identity of the leader. Every change fails if the database knows a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochFence {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Epoch of the leader.
    pub epoch: Epoch,
}

/// The leader and the database that it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Identity of the database. Every ownership mark contains it.
    pub database_id: DatabaseId,
    /// The leader.
    pub fence: EpochFence,
}

/// One Postgres database with tenants. Clones share the connections. It connects at the first use.
#[derive(Clone)]
pub struct Database {
    settings: InstanceSettings,
    pool: Arc<ConnectionPool>,
    cells: Arc<Allocator>,
    read_batcher: Arc<ReadBatcher>,
    migrating: perform::RunningMigrations,
}

impl Database {
    /// Creates the handle of a database. The settings have to be valid.
    pub fn new(settings: InstanceSettings) -> Self {
        let pool = Arc::new(ConnectionPool::new(settings.clone()));
        let cells = Arc::new(Allocator::new(settings.tenants_per_cell));
        Self { settings, pool, cells, read_batcher: Arc::default(), migrating: perform::RunningMigrations::default() }
    }

    /// Its settings.
    pub fn settings(&self) -> &InstanceSettings {
        &self.settings
    }

    /// Number of messages sent to the server so far, without logins and pings. Each is one round trip.
    pub fn round_trips(&self) -> u64 {
        self.pool.round_trips()
    }

    /// Sends statements that only read.
    async fn read(
        &self,
        step: &'static str,
        write: impl Fn(&mut Statements) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        self.run(step, ConnectionRole::Read, write).await
    }

    /// Sends statements that change something.
    async fn change(
        &self,
        step: &'static str,
        write: impl Fn(&mut Statements) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        self.run(step, ConnectionRole::Change, write).await
    }

    async fn run(
        &self,
        step: &'static str,
        access: ConnectionRole,
        write: impl Fn(&mut Statements) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        let settings = self.settings.clone();
        let render = move |server: Server| {
            let mut sql = Statements::new(server, &settings);
            if access == ConnectionRole::Read {
                sql.add(pool::ASK_RECOVERY);
            }
            write(&mut sql)?;
            Ok(sql.into_text())
        };
        self.pool.run(step, access, render).await
    }
}
