//! What can go wrong between a request and its tenant's data.

use crate::domain::{
    class::ErrorClass,
    sqlstate::{Meaning, leaves_commit_open, resolve_meaning},
    tls::explain_tls,
};

/// Why a transaction didn't happen. Never quotes values; the server's messages stay in the log.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The tenant runs as many transactions as it may.
    #[error("the tenant's transactions are all in use")]
    TenantBusy,
    /// All connections of this replica are in use.
    #[error("all connections are in use")]
    Busy,
    /// The tenant's cell isn't known.
    #[error("there is no login for the cell '{0}'")]
    NoCell(String),
    /// The instance couldn't be reached a moment ago.
    #[error("the database couldn't be reached a moment ago")]
    Paused,
    /// The tenant was deleted and recreated since the request was admitted.
    #[error("the tenant was replaced by another one of the same id")]
    Replaced,
    /// The server can't be reached, or went away.
    #[error("the database can't be reached")]
    Unreachable(#[source] sqlx::Error),
    /// The server's certificate, or its TLS, can't be trusted; or it offers none.
    #[error("the database {0}")]
    Untrusted(String),
    /// A statement or the whole transaction took too long.
    #[error("the database took too long")]
    TooSlow(#[source] Option<sqlx::Error>),
    /// The server refuses the tenant's role or schema.
    #[error("the database refuses access to the tenant's data")]
    Refused(#[source] sqlx::Error),
    /// The server gave the transaction up for another one, twice.
    #[error("the database gave the transaction up")]
    GivenUp(#[source] sqlx::Error),
    /// The server refused a statement.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
    /// The connection broke while committing: the change may or may not be there.
    #[error("the outcome of a transaction is unknown")]
    OutcomeUnknown(#[source] sqlx::Error),
    /// The transaction's task died.
    #[error("the transaction was abandoned")]
    Abandoned,
}

impl DatabaseError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TenantBusy | Self::Busy | Self::NoCell(_) => ErrorClass::Waiting,
            Self::Replaced => ErrorClass::Conflict,
            Self::Paused | Self::Unreachable(_) | Self::TooSlow(_) | Self::GivenUp(_) | Self::OutcomeUnknown(_) => {
                ErrorClass::Transient
            }
            Self::Refused(_) | Self::Untrusted(_) => ErrorClass::Denied,
            Self::Statement(_) | Self::Abandoned => ErrorClass::Bug,
        }
    }
}

impl DatabaseError {
    /// Whether the instance can't be reached or doesn't answer.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TooSlow(_) => true,
            Self::TenantBusy
            | Self::Busy
            | Self::NoCell(_)
            | Self::Paused
            | Self::Replaced
            | Self::Untrusted(_)
            | Self::Refused(_)
            | Self::GivenUp(_)
            | Self::Statement(_)
            | Self::OutcomeUnknown(_)
            | Self::Abandoned => false,
        }
    }
}

/// What an error of the driver means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection is gone, or its server can't serve (read-only, disk full, shutting down); nothing was committed.
    Dead,
    /// "cached plan must not change result type": the schema's version changed under a prepared statement.
    StalePlan,
    /// Rolled back by the server in favour of another transaction: a deadlock, or a conflict on a standby
    /// that is promoted.
    GivenUp,
    /// A time limit of a statement, or of a wait for a lock.
    Slow,
    /// Role or schema missing, or no right to it.
    Refused,
    /// Any other error of the server.
    Statement,
}

/// By the table that the operator uses, too.
pub(super) fn resolve_cause(error: &sqlx::Error) -> Cause {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_) => Cause::Statement,
            _ => Cause::Dead,
        };
    };
    match resolve_meaning(database.code().as_deref().unwrap_or_default(), None) {
        Meaning::Unavailable => Cause::Dead,
        Meaning::RolledBack => Cause::GivenUp,
        Meaning::TimedOut | Meaning::Contended => Cause::Slow,
        Meaning::StalePlan => Cause::StalePlan,
        Meaning::Denied | Meaning::Missing => Cause::Refused,
        Meaning::Duplicate
        | Meaning::Exists
        | Meaning::StillNeeded
        | Meaning::Stale
        | Meaning::AlreadyDone
        | Meaning::Conflict
        | Meaning::RefusedByTrigger
        | Meaning::Statement => Cause::Statement,
    }
}

/// Whether this answer to a COMMIT means that nothing was committed. A session that an administrator ends, or a constraint
/// that is checked last, has rolled back; a server that crashes, or a pooler that has lost its server (class 08, 40003),
/// can't know.
pub(super) fn is_rolled_back(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    database.code().is_some_and(|code| !leaves_commit_open(&code))
}

/// The setting that names the CA certificates.
const CA_CERTIFICATES: &str = "database.rootCertificates";

/// What a failed login means.
pub(super) fn wrap_login(error: sqlx::Error) -> DatabaseError {
    match (explain_tls(&error, CA_CERTIFICATES), &error) {
        (Some(text), _) => DatabaseError::Untrusted(text),
        // The driver's own words: no TLS there, or the file can't be read.
        (None, sqlx::Error::Tls(reason)) => DatabaseError::Untrusted(format!("can't be trusted: {reason}")),
        (None, _) => resolve_cause(&error).wrap(error),
    }
}

impl Cause {
    pub(super) fn wrap(self, error: sqlx::Error) -> DatabaseError {
        match self {
            Self::Dead => DatabaseError::Unreachable(error),
            Self::GivenUp => DatabaseError::GivenUp(error),
            Self::Slow => DatabaseError::TooSlow(Some(error)),
            Self::Refused => DatabaseError::Refused(error),
            Self::StalePlan | Self::Statement => DatabaseError::Statement(error),
        }
    }

    /// Whether a second try makes sense; `reused`: the connection came from the pool, and may have been dead for long.
    pub(super) fn is_retryable(self, reused: bool) -> bool {
        match self {
            Self::Dead => reused,
            Self::StalePlan | Self::GivenUp => true,
            Self::Slow | Self::Refused | Self::Statement => false,
        }
    }
}
