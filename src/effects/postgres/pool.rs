//! The operator's connections to one database. Every statement is sent by this module.
//!
//! Every call sends one message of several statements. Postgres runs it as one transaction: it commits at the end of the
//! message and rolls back at the first error, so no connection stays inside a transaction. Each message is sent by a
//! separate task, so dropping the caller does not cancel it. This makes sqlx's pool unnecessary, which needs an additional
//! round trip for each release.

use super::{
    error::{PgError, PgErrorKind},
    render::Server,
};
use crate::{
    domain::class::ErrorClass,
    settings::database::{InstanceSettings, SslMode},
};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Row,
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

/// A connection that was idle for this long is pinged before it is used: firewalls drop idle connections silently.
const SUSPICIOUS_AFTER: Duration = Duration::from_secs(30);

/// A connection that was idle for this long is closed at the next use of the pool.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// Maximum age of a connection. The relation cache of a backend grows with each schema, and is never freed.
const AGE_LIMIT: Duration = Duration::from_secs(900);

/// What the statements do, which decides about timeouts and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    /// They only read. They are sent again on a new connection if an old connection is broken.
    Read,
    /// They change something. After a lost reply, the next reconcile reads whether they did.
    Change,
    /// They change something, and may take as long as a migration.
    SlowChange,
}

struct Held {
    connection: PgConnection,
    born: Instant,
    idle_since: Instant,
    used: bool,
}

/// The connections of one operator to one database.
pub(super) struct ConnectionPool {
    settings: InstanceSettings,
    permits: Semaphore,
    idle: Mutex<Vec<Held>>,
    round_trips: AtomicU64,
    /// `server_version_num` of the last connection that was used; 0 before the first one.
    version: AtomicU32,
}

impl ConnectionPool {
    pub(super) fn new(settings: InstanceSettings) -> Self {
        let permits = Semaphore::new(settings.max_connections as usize);
        Self { settings, permits, idle: Mutex::default(), round_trips: AtomicU64::new(0), version: AtomicU32::new(0) }
    }

    /// Number of messages sent so far, without logins and pings.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// The server of the last connection that was used.
    pub(super) fn server(&self) -> Server {
        Server { version: self.version.load(Ordering::Relaxed) }
    }

    /// The server of the last connection that was used. The first call connects.
    pub(super) async fn known_server(&self, step: &'static str) -> Result<Server, PgError> {
        let known = self.server();
        if known.version > 0 {
            return Ok(known);
        }
        let permit = timeout(self.reply_timeout(ConnectionRole::Change), self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(PgError::busy(step)) };
        let held = self.take(step).await?;
        let server = self.note_server(&held);
        self.give_back(held);
        Ok(server)
    }

    fn note_server(&self, held: &Held) -> Server {
        let version = held.connection.server_version_num().unwrap_or_default();
        self.version.store(version, Ordering::Relaxed);
        Server { version }
    }

    /// Sends statements as one message, which is one transaction, and returns every row of every result.
    ///
    /// The statements still run to their end if the caller is dropped. After an error of the server everything is rolled back;
    /// after [`PgErrorKind::Interrupted`] that is unknown.
    pub(super) async fn run(
        self: &Arc<Self>,
        step: &'static str,
        access: ConnectionRole,
        render: impl Fn(Server) -> Result<String, PgError> + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, PgError> {
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move {
            match pool.attempt(step, access, &render).await {
                // Perhaps a new connection reaches a server that can answer.
                Err((error, true)) if access == ConnectionRole::Read && error.ends_connection() => {
                    pool.idle().clear();
                    pool.attempt(step, access, &render).await.map_err(|(error, _)| error)
                }
                result => result.map_err(|(error, _)| error),
            }
        });
        task.await.unwrap_or_else(|_| Err(PgError::interrupted(step, "the task was canceled")))
    }

    /// The flag of an error: the connection had been used before.
    async fn attempt(
        &self,
        step: &'static str,
        access: ConnectionRole,
        render: &(impl Fn(Server) -> Result<String, PgError> + Sync),
    ) -> Result<Vec<PgRow>, (PgError, bool)> {
        let limit = self.reply_timeout(access);
        let permit = timeout(limit, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err((PgError::busy(step), false));
        };
        let mut held = self.take(step).await.map_err(|error| (error, false))?;
        let text = match render(self.note_server(&held)) {
            Ok(text) => text,
            Err(error) => {
                self.give_back(held);
                return Err((error, false));
            }
        };
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let statements = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut held.connection);
        match timeout(limit, statements).await {
            Ok(Ok(rows)) if access == ConnectionRole::Read && says_in_recovery(&rows) => {
                self.idle().clear();
                Err((PgError::in_recovery(step), held.used))
            }
            Ok(Ok(rows)) => {
                self.give_back(held);
                Ok(rows)
            }
            Ok(Err(error)) => {
                let error = PgError::from_sqlx(step, &error, true);
                let used = held.used;
                if !error.ends_connection() {
                    self.give_back(held);
                } else if error.kind == PgErrorKind::Unwritable {
                    // New connections may reach a server that takes writes.
                    self.idle().clear();
                }
                // A connection in an unknown state is dropped, which closes it.
                Err((error, used))
            }
            Err(_) => Err((PgError::interrupted(step, "the server did not answer in time"), held.used)),
        }
    }

    /// How long a reply is awaited. The server limits statements; this limits lost replies.
    fn reply_timeout(&self, access: ConnectionRole) -> Duration {
        let statement = match access {
            ConnectionRole::Read | ConnectionRole::Change => self.settings.statement_timeout_seconds,
            ConnectionRole::SlowChange => self.settings.migration_timeout_seconds,
        };
        Duration::from_secs(u64::from(statement) * 2 + 5)
    }

    /// Sends messages outside of a transaction, on a separate connection. They still run to their end if the caller is
    /// dropped.
    pub(super) async fn run_alone(
        self: &Arc<Self>,
        step: &'static str,
        rendered_for: Server,
        messages: [String; 2],
    ) -> Result<(), PgError> {
        let pool = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut held = pool.connect(step).await?;
            if pool.note_server(&held) != rendered_for {
                return Err(PgError::another_server(step));
            }
            let run = async {
                for text in messages {
                    pool.round_trips.fetch_add(1, Ordering::Relaxed);
                    let sent = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut held.connection).await;
                    sent.map_err(|error| PgError::from_sqlx(step, &error, true))?;
                }
                Ok(())
            };
            let done = timeout(pool.reply_timeout(ConnectionRole::SlowChange), run).await;
            done.unwrap_or_else(|_| Err(PgError::interrupted(step, "the server did not answer in time")))
        });
        task.await.unwrap_or_else(|_| Err(PgError::interrupted(step, "the task was canceled")))
    }

    /// Connects as another role. The caller closes the connection.
    pub(super) async fn connect_as(
        &self,
        step: &'static str,
        user: &str,
        password: &[u8],
    ) -> Result<PgConnection, PgError> {
        let password =
            std::str::from_utf8(password).map_err(|_| PgError::bug(step, "the password is not valid UTF-8"))?;
        let options = connect_options(&self.settings, step).await?.username(user).password(password);
        let connected = timeout(self.settings.connect_timeout(), options.connect()).await;
        let connection =
            connected.map_err(|_| PgError::interrupted(step, "the server did not accept a connection in time"))?;
        // This error does not mean that the operator can't reach the database.
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

/// Asked first in every message that only reads. Returns a row only on a server in recovery. One statement before the others
/// of the message is enough: a session never goes from a primary into recovery, because that takes a restart.
pub(super) const ASK_RECOVERY: &str = "SELECT true AS in_recovery WHERE pg_is_in_recovery();";

fn says_in_recovery(rows: &[PgRow]) -> bool {
    rows.first().and_then(|row| row.columns().first()).is_some_and(|column| column.name() == "in_recovery")
}

/// The connection options, with the current password.
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
        // Not sent: a pooler refuses unknown session parameters, and no floating-point number is read.
        .extra_float_digits(None)
        .application_name("agent-tenancy-operator")
        .ssl_mode(mode)
        // Statements can contain verifiers of passwords, which must not be logged.
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
