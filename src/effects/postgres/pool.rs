//! The operator's connections to one database, and the one way in which statements reach it.
//!
//! Every use is one message of several statements, which Postgres runs as one transaction: it commits at the end of the
//! message and rolls back at the first error, so no connection is ever left inside a transaction, whatever happens to
//! its client. Each runs in a task of its own, so that a caller that is dropped cancels nothing. This is why sqlx's own
//! pool, with its extra round trip for each release, is not needed.

use super::{
    error::{PgError, PgErrorKind},
    sqlstate,
};
use crate::{
    domain::class::ErrorClass,
    settings::database::{InstanceSettings, SslMode},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

/// A connection that was idle for this long is asked for a sign of life before it is used: middle boxes forget quietly.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(30);

/// A connection that was idle for this long is closed at the next use of the pool.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// Oldest age of a connection: a backend's relation cache grows with the schemas it has seen and is never given back.
const AGE_LIMIT: Duration = Duration::from_secs(900);

/// What the statements may do if the reply is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    /// Only reads: asked again on a new connection if an old one turns out to be dead.
    Read,
    /// Changes: whether they were made is for the next look to tell.
    Change,
    /// The same, and they may take as long as a migration.
    SlowChange,
}

/// The server at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// `server_version_num`.
    pub(super) version: u32,
}

impl Server {
    /// What a GRANT of a role adds, so that the member can become the role and gets nothing without.
    pub(super) fn only_set(self) -> &'static str {
        if self.version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" }
    }
}

struct Held {
    connection: PgConnection,
    born: Instant,
    idle_since: Instant,
    used: bool,
}

/// The connections of one operator to one database.
pub(super) struct Pool {
    settings: InstanceSettings,
    permits: Semaphore,
    idle: Mutex<Vec<Held>>,
    round_trips: AtomicU64,
    /// `server_version_num` of the server that was last talked to; 0 before.
    version: AtomicU32,
}

impl Pool {
    pub(super) fn new(settings: InstanceSettings) -> Self {
        let permits = Semaphore::new(settings.max_connections as usize);
        Self { settings, permits, idle: Mutex::default(), round_trips: AtomicU64::new(0), version: AtomicU32::new(0) }
    }

    /// Messages sent so far, logins and signs of life apart.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// The server that was last talked to.
    pub(super) fn server(&self) -> Server {
        Server { version: self.version.load(Ordering::Relaxed) }
    }

    /// Sends statements as one message, which is one transaction, and returns every row of every result.
    ///
    /// If the caller is dropped the statements still run to their end. After an error of the server everything is
    /// rolled back; after [`PgErrorKind::Interrupted`] it is not known.
    pub(super) async fn run(
        self: &Arc<Self>,
        step: &'static str,
        access: ConnectionRole,
        render: impl Fn(Server) -> Result<String, PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move {
            match pool.attempt(step, access, &render).await {
                Err((error, true)) if access == ConnectionRole::Read && error.kind == PgErrorKind::Interrupted => {
                    pool.idle().clear();
                    pool.attempt(step, access, &render).await.map_err(|(error, _)| error)
                }
                result => result.map_err(|(error, _)| error),
            }
        });
        task.await.unwrap_or_else(|_| Err(PgError::interrupted(step, "the task was ended")))
    }

    /// The flag beside an error: the connection had been used before.
    async fn attempt(
        &self,
        step: &'static str,
        access: ConnectionRole,
        render: &(impl Fn(Server) -> Result<String, PgError> + Sync),
    ) -> Result<Vec<PgRow>, (PgError, bool)> {
        let patience = self.patience(access);
        let permit = timeout(patience, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err((PgError::unreachable(step, "all of the operator's connections are busy"), false));
        };
        let mut held = self.take(step).await.map_err(|error| (error, false))?;
        let version = held.connection.server_version_num().unwrap_or_default();
        self.version.store(version, Ordering::Relaxed);
        let text = match render(Server { version }) {
            Ok(text) => text,
            Err(error) => {
                self.give_back(held);
                return Err((error, false));
            }
        };
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let statements = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut held.connection);
        match timeout(patience, statements).await {
            Ok(Ok(rows)) => {
                self.give_back(held);
                Ok(rows)
            }
            Ok(Err(error)) => {
                let error = PgError::from_sqlx(step, &error, true);
                let used = held.used;
                if error.code() == sqlstate::READ_ONLY {
                    // The primary is somewhere else now; new connections may find it.
                    self.idle().clear();
                    return Err((error, used));
                }
                // A connection whose state is not certain is dropped, which ends it.
                if error.kind != PgErrorKind::Interrupted && error.sqlstate.is_some() {
                    self.give_back(held);
                }
                Err((error, used))
            }
            Err(_) => Err((PgError::interrupted(step, "the server did not answer in time"), held.used)),
        }
    }

    /// Statements are limited by the server; this is for a network that swallows replies.
    fn patience(&self, access: ConnectionRole) -> Duration {
        let statement = match access {
            ConnectionRole::Read | ConnectionRole::Change => self.settings.statement_timeout_seconds,
            ConnectionRole::SlowChange => self.settings.migration_timeout_seconds,
        };
        Duration::from_secs(u64::from(statement) * 2 + 5)
    }

    /// Runs a statement on a connection of its own, after what gets it ready. If the caller is dropped it still runs to its
    /// end.
    pub(super) async fn run_alone(
        self: &Arc<Self>,
        step: &'static str,
        render: impl Fn(Server) -> Result<String, PgError> + Send + Sync + 'static,
        statement: String,
    ) -> Result<(), PgError> {
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut held = pool.connect(step).await?;
            let version = held.connection.server_version_num().unwrap_or_default();
            let run = async {
                for text in [render(Server { version })?, statement] {
                    pool.round_trips.fetch_add(1, Ordering::Relaxed);
                    let sent = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut held.connection).await;
                    sent.map_err(|error| PgError::from_sqlx(step, &error, true))?;
                }
                Ok(())
            };
            let done = timeout(pool.patience(ConnectionRole::SlowChange), run).await;
            done.unwrap_or_else(|_| Err(PgError::interrupted(step, "the server did not answer in time")))
        });
        task.await.unwrap_or_else(|_| Err(PgError::interrupted(step, "the task was ended")))
    }

    /// A connection as another role, which the caller closes.
    pub(super) async fn connect_as(
        &self,
        step: &'static str,
        user: &str,
        password: &[u8],
    ) -> Result<PgConnection, PgError> {
        let password = std::str::from_utf8(password).map_err(|_| PgError::bug(step, "the password is no text"))?;
        let options = connect_options(&self.settings, step).await?.username(user).password(password);
        let connected = timeout(self.settings.connect_timeout(), options.connect()).await;
        let connection =
            connected.map_err(|_| PgError::interrupted(step, "the server did not accept a connection in time"))?;
        // Nobody else's way to the database is closed by that.
        connection.map_err(|error| PgError {
            class: ErrorClass::Transient,
            kind: PgErrorKind::Interrupted,
            ..PgError::from_sqlx(step, &error, false)
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, step: &'static str) -> Result<Held, PgError> {
        loop {
            let now = Instant::now();
            let (found, stale) = {
                let mut idle = self.idle();
                let stale: Vec<Held> =
                    idle.extract_if(.., |h| now - h.idle_since > IDLE_LIMIT || now - h.born > AGE_LIMIT).collect();
                (idle.pop(), stale)
            };
            drop(stale);
            let Some(mut held) = found else { break };
            if now - held.idle_since < SUSPICIOUS_AFTER {
                return Ok(held);
            }
            if let Ok(Ok(())) = timeout(self.settings.connect_timeout(), held.connection.ping()).await {
                return Ok(held);
            }
        }
        self.connect(step).await
    }

    fn give_back(&self, mut held: Held) {
        held.idle_since = Instant::now();
        held.used = true;
        self.idle().push(held);
    }

    async fn connect(&self, step: &'static str) -> Result<Held, PgError> {
        let options = connect_options(&self.settings, step).await?;
        let connection = timeout(self.settings.connect_timeout(), options.connect())
            .await
            .map_err(|_| PgError::unreachable(step, "the server did not accept a connection in time"))?
            .map_err(|error| PgError::from_sqlx(step, &error, false))?;
        let now = Instant::now();
        Ok(Held { connection, born: now, idle_since: now, used: false })
    }
}

/// How to connect, with the password as it stands now.
async fn connect_options(settings: &InstanceSettings, step: &'static str) -> Result<PgConnectOptions, PgError> {
    let mode = match settings.ssl_mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&settings.host)
        .port(settings.port)
        .database(&settings.database)
        .username(&settings.user)
        // Not sent: a pooler refuses parameters of a session that it doesn't know, and no floating-point number is read.
        .extra_float_digits(None)
        .application_name("agent-tenancy-operator")
        .ssl_mode(mode)
        // Statements can hold verifiers of passwords: never to a log.
        .disable_statement_logging();
    if let Some(file) = &settings.ssl_root_cert_file {
        options = options.ssl_root_cert(file);
    }
    let password = match (&settings.password_file, &settings.password_env) {
        (Some(file), _) => {
            let read = tokio::fs::read_to_string(file).await.map_err(|error| {
                PgError::unreachable(step, format!("the password file '{}' can't be read: {error}", file.display()))
            })?;
            Some(Zeroizing::new(read))
        }
        (None, Some(variable)) => std::env::var(variable).ok().map(Zeroizing::new),
        (None, None) => None,
    };
    Ok(match password {
        Some(password) => options.password(password.trim_end_matches(['\r', '\n'])),
        None => options,
    })
}
