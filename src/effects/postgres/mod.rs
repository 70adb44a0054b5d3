//! Postgres: one [`Database`] per instance of the settings.
//!
//! | file | what it does |
//! | --- | --- |
//! | `pool`, `error`, `sqlstate` | the one way to the server, and what its refusals mean |
//! | `instance` | preflight, control schema, epoch |
//! | `render/` | the SQL of every step, as a function of the step |
//! | `perform`, `session` | performing a step: its script is sent, and what follows from the answer |
//! | `cells`, `allocator` | cells: who is in them, and which one a new tenant joins |
//! | `logins` | rotating the logins of a cell |
//! | `ledger`, `access` | what the database holds for one tenant, in one round trip |
//! | `residents` | of which tenant ids it holds anything, in one round trip |
//! | `read_batcher` | that for several tenants at once, when several are asked for |
//! | `drift` | which tenants of the fleet look wrong, in one round trip |
//! | `fleet` | how far all tenants have come with the migrations, in one round trip |
//! | `headroom` | how far the server's limits are |
//! | `archive` | archives whose time is over |
//! | `takeover` | who may take over what another cluster's Tenant has |

mod access;
mod allocator;
mod archive;
mod capacity;
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
pub mod sqlstate;
mod takeover;

pub use archive::{DueArchive, DueArchives};
pub use error::{PgError, PgErrorKind};
pub use ledger::Look;
pub use render::CellLogin;

use crate::{
    domain::ident::{DatabaseId, Epoch},
    settings::database::InstanceSettings,
};
use allocator::Allocator;
use pool::{ConnectionRole, Pool};
use read_batcher::ReadBatcher;
use render::{Server, Statements};
use sqlx::postgres::PgRow;
use std::sync::Arc;

/// Whose leader we are, and since when: every change fails unless the database agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochFence {
    /// Which cluster.
    pub cluster_id: String,
    /// Epoch of this leader.
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

/// One Postgres database that holds tenants. Clones share connections. Nothing connects before the first use.
#[derive(Clone)]
pub struct Database {
    settings: InstanceSettings,
    pool: Arc<Pool>,
    cells: Arc<Allocator>,
    read_batcher: Arc<ReadBatcher>,
    migrating: perform::RunningMigrations,
}

impl Database {
    /// A database by its settings, which have to be free of violations.
    pub fn new(settings: InstanceSettings) -> Self {
        let pool = Arc::new(Pool::new(settings.clone()));
        let cells = Arc::new(Allocator::new(settings.tenants_per_cell));
        Self { settings, pool, cells, read_batcher: Arc::default(), migrating: perform::RunningMigrations::default() }
    }

    /// Its settings.
    pub fn settings(&self) -> &InstanceSettings {
        &self.settings
    }

    /// Messages sent to the server so far, each one round trip; logins and signs of life apart.
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
            write(&mut sql)?;
            Ok(sql.into_text())
        };
        self.pool.run(step, access, render).await
    }
}
