//! Connections of this replica: one budget over all cells, and of it a share for each instance.
//!
//! A permit of both is held while a connection is in use. The holder gets an idle connection of its cell,
//! or room for a new one, or an idle connection of another cell that can be closed: the least recently used cell's goes
//! first. A connection that was not handed back clean is closed, never reused.

use super::{
    error::{DatabaseError, resolve_cause, wrap_login},
    instances::{ConnectedInstances, Instance},
};
use crate::{
    agent_api::{metrics::PoolUse, registry::Cell},
    clock::Clock,
    domain::ident::Version,
    settings::agent_api::DatabaseSettings,
};
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{
    collections::HashMap,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of this replica.
pub struct Pool {
    settings: DatabaseSettings,
    budget: Arc<Semaphore>,
    instances: ConnectedInstances,
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    /// By the name of the cell's entry; the most recently used connection is the last.
    idle: HashMap<String, Vec<Idle>>,
    /// Connections that exist, in use or idle.
    open: usize,
}

struct Idle {
    connection: PgConnection,
    version: Version,
    born: Duration,
    since: Duration,
}

/// A connection in use. Dropped without [`Borrowed::hand_back`], it is closed.
pub(super) struct Borrowed {
    connection: Option<PgConnection>,
    pool: Arc<Pool>,
    cell: String,
    version: Version,
    born: Duration,
    /// Whether it was used before: then it may have died meanwhile.
    pub(super) reused: bool,
    instance: Arc<Instance>,
    /// Of the instance's share and of the budget.
    _permits: [OwnedSemaphorePermit; 2],
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: DatabaseSettings, clock: Clock) -> Arc<Self> {
        let budget = Arc::new(Semaphore::new(settings.connection_budget));
        let instances = ConnectedInstances::new(settings.connection_budget, clock.clone());
        Arc::new(Self { settings, budget, instances, state: Mutex::default(), clock })
    }

    /// Its settings.
    pub fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// How many connections there are.
    pub fn usage(&self) -> PoolUse {
        let state = self.state();
        let idle: usize = state.idle.values().map(Vec::len).sum();
        PoolUse { open: state.open, busy: state.open.saturating_sub(idle) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection with the login that `cell` names when there is room, within the acquire timeout. A login that is
    /// refused because another one took its place meanwhile is no failure.
    pub(super) async fn borrow(
        self: &Arc<Self>,
        cell: impl Fn() -> Result<Arc<Cell>, DatabaseError>,
    ) -> Result<Borrowed, DatabaseError> {
        let timeout = Duration::from_millis(self.settings.acquire_timeout_millis);
        let instance = self.instances.get(&cell()?.entry.instance);
        let own = instance.connection(timeout).await?;
        let permit = tokio::time::timeout(timeout, Arc::clone(&self.budget).acquire_owned());
        let permit = permit.await.map_err(|_| DatabaseError::Busy)?.map_err(|_| DatabaseError::Abandoned)?;
        let mut cell_now = cell()?;
        let (found, victim) = self.find(&cell_now);
        if let Some(victim) = victim {
            tokio::spawn(close(victim));
        }
        let mut borrowed = Borrowed {
            connection: None,
            pool: Arc::clone(self),
            cell: cell_now.name.clone(),
            version: cell_now.version,
            born: self.clock.monotonic(),
            reused: false,
            instance,
            _permits: [own, permit],
        };
        match found {
            Some(idle) => {
                borrowed.born = idle.born;
                borrowed.reused = true;
                borrowed.connection = Some(idle.connection);
            }
            // If this fails, or is cancelled, dropping `borrowed` gives the room back.
            None => loop {
                match self.connect(&cell_now).await {
                    Ok(connection) => {
                        borrowed.instance.note_success();
                        (borrowed.connection, borrowed.version) = (Some(connection), cell_now.version);
                        break;
                    }
                    Err(error) => {
                        let new = cell()?;
                        if new.version == cell_now.version {
                            if error.is_outage() {
                                borrowed.instance.note_failure();
                            }
                            return Err(error);
                        }
                        cell_now = new;
                    }
                }
            },
        }
        Ok(borrowed)
    }

    /// An idle connection of the cell; or room for a new one, and what has to be closed for it.
    fn find(&self, cell: &Cell) -> (Option<Idle>, Option<PgConnection>) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        while let Some(idle) = state.idle.get_mut(&cell.name).and_then(Vec::pop) {
            if idle.version == cell.version && !self.too_old(&idle, now) {
                return (Some(idle), None);
            }
            state.open -= 1;
            tokio::spawn(close(idle.connection));
        }
        let victim = if state.open >= self.settings.connection_budget { state.evict() } else { None };
        state.open += 1;
        (None, victim)
    }

    fn too_old(&self, idle: &Idle, now: Duration) -> bool {
        now.saturating_sub(idle.born) > Duration::from_secs(self.settings.max_lifetime_seconds)
            || now.saturating_sub(idle.since) > Duration::from_secs(self.settings.idle_seconds)
    }

    async fn connect(&self, cell: &Cell) -> Result<PgConnection, DatabaseError> {
        let options = connect_options(cell, &self.settings).map_err(|e| resolve_cause(&e).wrap(e))?;
        let limit = Duration::from_secs(self.settings.login_timeout_seconds);
        match tokio::time::timeout(limit, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(wrap_login(error)),
            Err(_) => Err(DatabaseError::TooSlow(None)),
        }
    }

    /// Logs in to a cell once and out again.
    ///
    /// # Errors
    /// When that fails or takes too long.
    pub async fn try_login(&self, cell: &Cell) -> Result<(), DatabaseError> {
        // Known from now on, so that its share is its own before its first request.
        drop(self.instances.get(&cell.entry.instance));
        let connection = self.connect(cell).await?;
        close(connection).await;
        Ok(())
    }

    /// Closes a cell's idle connections: one of them was found dead.
    pub(super) fn forget_idle(&self, cell: &str) {
        let mut state = self.state();
        let dead = state.idle.remove(cell).unwrap_or_default();
        state.open -= dead.len();
    }

    /// Closes connections that are unused for too long or too old, or belong to a replaced login: `current` is
    /// the version of a cell's entry that is in use. Called periodically.
    pub fn sweep(&self, current: impl Fn(&str) -> Option<Version>) {
        let now = self.clock.monotonic();
        let mut closing = Vec::new();
        let mut state = self.state();
        for (cell, idle) in &mut state.idle {
            let version = current(cell);
            let over = |i: &Idle| Some(i.version) != version || self.too_old(i, now);
            let (old, young): (Vec<_>, Vec<_>) = idle.drain(..).partition(over);
            *idle = young;
            closing.extend(old);
        }
        state.idle.retain(|_, idle| !idle.is_empty());
        state.open -= closing.len();
        drop(state);
        for idle in closing {
            tokio::spawn(close(idle.connection));
        }
    }

    /// Closes every idle connection.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        for idle in idle.into_values().flatten() {
            self.state().open -= 1;
            close(idle.connection).await;
        }
    }
}

impl State {
    /// Takes the oldest connection of the cell that was used least recently.
    fn evict(&mut self) -> Option<PgConnection> {
        let last_use = |idle: &Vec<Idle>| idle.last().map(|i| i.since);
        let candidates = self.idle.iter().filter(|(_, idle)| !idle.is_empty());
        let cell = candidates.min_by_key(|(_, idle)| last_use(idle)).map(|(cell, _)| cell.clone())?;
        let idle = self.idle.get_mut(&cell)?;
        let victim = idle.remove(0);
        if idle.is_empty() {
            self.idle.remove(&cell);
        }
        self.open -= 1;
        Some(victim.connection)
    }
}

impl Borrowed {
    /// The connection.
    pub(super) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.connection.as_mut()
    }

    /// Records that the server doesn't answer.
    pub(super) fn note_no_answer(&self) {
        self.instance.note_failure();
    }

    /// Gives it back to the pool. The caller vouches that it is in no transaction.
    pub(super) fn hand_back(mut self) {
        if let Some(connection) = self.connection.take() {
            let since = self.pool.clock.monotonic();
            let idle = Idle { connection, version: self.version, born: self.born, since };
            self.pool.state().idle.entry(self.cell.clone()).or_default().push(idle);
            // Still counted as open; `drop` must not subtract it.
            self.cell.clear();
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if !self.cell.is_empty() {
            self.pool.state().open -= 1;
        }
    }
}

async fn close(connection: PgConnection) {
    drop(tokio::time::timeout(Duration::from_secs(1), connection.close()).await);
}

fn connect_options(cell: &Cell, settings: &DatabaseSettings) -> Result<PgConnectOptions, sqlx::Error> {
    let entry = &cell.entry;
    let password = std::str::from_utf8(entry.password.expose())
        .map_err(|_| sqlx::Error::Configuration("the password is no text".into()))?;
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&entry.host)
        .port(entry.port)
        .database(&entry.database)
        .username(&entry.user)
        .password(password)
        .ssl_mode(PgSslMode::from_str(&entry.ssl_mode)?)
        // Not sent: a pooler refuses parameters of a session that it doesn't know, and no floating-point number is read.
        .extra_float_digits(None)
        .application_name("agent-api")
        .disable_statement_logging();
    if !settings.root_certificates.is_empty() {
        options = options.ssl_root_cert(&settings.root_certificates);
    }
    if !settings.prepared_statements {
        options = options.statement_cache_capacity(0);
    }
    Ok(options)
}
