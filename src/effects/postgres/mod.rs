//! Postgres: one [`Database`] per instance of the settings.
//!
//! | file | what it does |
//! | --- | --- |
//! | `pool`, `error`, `sqlstate` | the one way to the server, and what its refusals mean |
//! | `instance` | preflight, control schema, epoch |
//! | `cells`, `allocator` | cells: their roles, and which one a new tenant joins |
//! | `logins` | rotating the logins of a cell |
//! | `ledger`, `access` | what the database holds for one tenant, in one round trip |
//! | `residents` | of which tenant ids it holds anything, in one round trip |
//! | `read_batcher` | that for several tenants at once, when several are asked for |
//! | `drift` | which tenants of the fleet look wrong, in one round trip; putting one right |
//! | `loss` | making way for a tenant that begins anew after a loss |
//! | `fleet` | how far all tenants have come with the migrations, in one round trip |
//! | `headroom` | how far the server's limits are |
//! | `migrate`, `own` | one file of migrations for one tenant: the program's, and the platform team's own |
//! | `adopt`, `archive` | taking over earlier data; archives whose time is over |
//! | `tenant`, `close` | changes of one tenant, each one transaction in one round trip |
//! | `script` | the text that every transaction starts with |
//! | `dry_run` | keeping changes instead of sending them, for those who want to see them first |

mod access;
mod adopt;
mod allocator;
mod archive;
mod capacity;
mod cells;
mod close;
mod custom_migrations;
mod drift;
mod dry_run;
mod error;
mod fleet;
mod instance;
mod ledger;
mod logins;
mod loss;
mod migrate;
mod pool;
mod read_batcher;
mod residents;
mod script;
pub mod sqlstate;
mod tenant;

pub use archive::{DueArchive, DueArchives};
pub use cells::CellLogin;
pub use error::{PgError, PgErrorKind};
pub use ledger::Look;

use crate::{domain::ident::Epoch, settings::database::InstanceSettings};
use allocator::Allocator;
use pool::{ConnectionRole, Pool, Server};
use read_batcher::ReadBatcher;
use script::Script;
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

/// One Postgres database that holds tenants. Clones share connections. Nothing connects before the first use.
#[derive(Clone)]
pub struct Database {
    settings: InstanceSettings,
    pool: Arc<Pool>,
    cells: Arc<Allocator>,
    read_batcher: Arc<ReadBatcher>,
    migrating: migrate::UnderWay,
    /// Changes are kept here instead of sent.
    unsent: Option<dry_run::Unsent>,
}

impl Database {
    /// A database by its settings, which have to be free of violations.
    pub fn new(settings: InstanceSettings) -> Self {
        let pool = Arc::new(Pool::new(settings.clone()));
        let cells = Arc::new(Allocator::new(settings.tenants_per_cell));
        Self {
            settings,
            pool,
            cells,
            read_batcher: Arc::default(),
            migrating: migrate::UnderWay::default(),
            unsent: None,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &InstanceSettings {
        &self.settings
    }

    /// Messages sent to the server so far, each one round trip; logins and signs of life apart.
    pub fn round_trips(&self) -> u64 {
        self.pool.round_trips()
    }

    /// Runs a script that only reads.
    async fn read(
        &self,
        step: &'static str,
        write: impl Fn(&mut Script) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        self.run(step, ConnectionRole::Read, write).await
    }

    /// Runs a script that changes something.
    async fn change(
        &self,
        step: &'static str,
        write: impl Fn(&mut Script) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        self.run(step, ConnectionRole::Change, write).await
    }

    /// Runs a script that changes something and may take as long as a migration.
    async fn change_slowly(
        &self,
        step: &'static str,
        write: impl Fn(&mut Script) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        self.run(step, ConnectionRole::SlowChange, write).await
    }

    /// Runs a statement outside of any transaction, on a connection of its own that `prepare` gets ready and that is closed
    /// afterwards.
    async fn run_alone(
        &self,
        step: &'static str,
        prepare: impl Fn(&mut Script) -> Result<(), PgError> + Send + Sync + 'static,
        statement: String,
    ) -> Result<(), PgError> {
        let settings = self.settings.clone();
        let render = move |server: Server| {
            let mut script = Script::new_alone(server, &settings);
            prepare(&mut script)?;
            Ok(script.into_text())
        };
        match &self.unsent {
            Some(unsent) => {
                unsent.keep(&format!("{}{statement}", render(self.pool.server())?));
                Ok(())
            }
            None => self.pool.run_alone(step, render, statement).await,
        }
    }

    async fn run(
        &self,
        step: &'static str,
        access: ConnectionRole,
        write: impl Fn(&mut Script) -> Result<(), PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        let settings = self.settings.clone();
        let render = move |server: Server| {
            let mut script = Script::new(server, &settings);
            write(&mut script)?;
            Ok(script.into_text())
        };
        match (&self.unsent, access) {
            (Some(unsent), ConnectionRole::Change | ConnectionRole::SlowChange) => {
                unsent.keep(&render(self.pool.server())?);
                Ok(Vec::new())
            }
            (Some(_), ConnectionRole::Read) | (None, _) => self.pool.run(step, access, render).await,
        }
    }
}

/// A change that was made before counts as made.
fn done_before<T: Default>(result: Result<T, PgError>) -> Result<T, PgError> {
    match result {
        Err(error) if error.kind == PgErrorKind::AlreadyDone => Ok(T::default()),
        result => result,
    }
}
