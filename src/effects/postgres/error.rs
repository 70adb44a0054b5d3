//! The error of one step against the database: never the statement's text, which can hold a password's verifier.

use super::{render::RenderError, sqlstate};
use crate::{
    api::Reason,
    domain::{class::ErrorClass, migrations::GrantError, scram::PasswordError, sql::QuoteError, tls::explain_tls},
    effects::error::EffectError,
};

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {note}")]
pub struct PgError {
    /// Decides what follows.
    pub class: ErrorClass,
    /// Which of the few cases that callers treat differently.
    pub kind: PgErrorKind,
    /// The server's code, if it was the server that refused.
    pub sqlstate: Option<String>,
    /// What was tried.
    pub step: &'static str,
    /// What came of it, for people.
    pub note: String,
}

/// The cases that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgErrorKind {
    /// No connection; nothing was sent.
    Unreachable,
    /// The connection broke or the time was up after sending: done or not done, the next look tells.
    Interrupted,
    /// A newer leader exists: this process has to end.
    Fenced,
    /// The change was made before.
    AlreadyDone,
    /// The control schema does not exist.
    NoControlSchema,
    /// A migration was refused by the server, and that is noted in the ledger.
    FileFailed,
    /// The server refused, or we would not ask. Nothing was changed.
    Refused,
}

impl PgError {
    /// We made a mistake before anything was sent.
    pub(super) fn bug(step: &'static str, note: impl Into<String>) -> Self {
        Self { class: ErrorClass::Bug, kind: PgErrorKind::Refused, sqlstate: None, step, note: note.into() }
    }

    /// No connection could be had.
    pub(super) fn unreachable(step: &'static str, note: impl Into<String>) -> Self {
        Self { class: ErrorClass::Transient, kind: PgErrorKind::Unreachable, sqlstate: None, step, note: note.into() }
    }

    /// All connections are in use.
    pub(super) fn busy(step: &'static str) -> Self {
        Self::unreachable(step, "all of the operator's connections are busy")
    }

    /// The server has another version than the one that the statements were rendered for. Nothing was sent.
    pub(super) fn another_server(step: &'static str) -> Self {
        let note = "the version of the server has changed".to_owned();
        Self { class: ErrorClass::Transient, kind: PgErrorKind::Refused, sqlstate: None, step, note }
    }

    /// It is not known whether the change was made.
    pub(super) fn interrupted(step: &'static str, note: impl Into<String>) -> Self {
        Self { class: ErrorClass::Transient, kind: PgErrorKind::Interrupted, sqlstate: None, step, note: note.into() }
    }

    /// The server can't be trusted, and won't become trustworthy by itself.
    fn untrusted(step: &'static str, note: String) -> Self {
        Self { class: ErrorClass::Denied, kind: PgErrorKind::Unreachable, sqlstate: None, step, note }
    }

    /// What the client library reported; `sent` says whether the statements had been sent.
    pub(super) fn from_sqlx(step: &'static str, error: &sqlx::Error, sent: bool) -> Self {
        let broken = if sent { Self::interrupted } else { Self::unreachable };
        if !sent && let Some(text) = explain_tls(error, "database.sslRootCertFile") {
            return Self::untrusted(step, format!("the server {text}"));
        }
        match error {
            sqlx::Error::Database(refusal) => {
                let code = refusal.code().unwrap_or_default().into_owned();
                let server = refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
                let class = sqlstate::classify(&code, server.and_then(|s| s.routine()));
                let kind = match code.as_str() {
                    sqlstate::FENCED => PgErrorKind::Fenced,
                    sqlstate::ALREADY_DONE => PgErrorKind::AlreadyDone,
                    // The backend was told to end; its last reply need not be its last deed.
                    "57P01" | "57P02" | "08006" | "40003" if sent => PgErrorKind::Interrupted,
                    _ if !sent => PgErrorKind::Unreachable,
                    _ => PgErrorKind::Refused,
                };
                let note = if code == sqlstate::SYNTAX_ERROR {
                    format!("the server refused a statement (SQLSTATE {code})")
                } else {
                    // Which objects are in the way is in the detail; other details can quote rows.
                    let detail = server.and_then(|s| s.detail()).filter(|_| code == sqlstate::STILL_NEEDED);
                    let detail = detail.map(|d| format!(": {}", d.replace('\n', ", "))).unwrap_or_default();
                    format!("{}{detail} (SQLSTATE {code})", refusal.message())
                };
                Self { class, kind, sqlstate: Some(code), step, note }
            }
            sqlx::Error::Io(error) => broken(step, format!("the connection broke: {error}")),
            sqlx::Error::Tls(error) => Self::untrusted(step, format!("TLS failed: {error}")),
            sqlx::Error::Protocol(note) => broken(step, format!("the connection is out of step: {note}")),
            sqlx::Error::Configuration(error) => Self {
                class: ErrorClass::Denied,
                kind: PgErrorKind::Unreachable,
                sqlstate: None,
                step,
                note: format!("the connection's settings are wrong: {error}"),
            },
            other => Self::bug(step, other.to_string()),
        }
    }

    /// The server's code, or an empty text.
    pub(super) fn code(&self) -> &str {
        self.sqlstate.as_deref().unwrap_or_default()
    }
}

impl From<PgError> for EffectError {
    fn from(error: PgError) -> Self {
        match error.kind {
            // The words of the condition by which the ledger tells of it later.
            PgErrorKind::FileFailed => {
                Self { reason: Some(Reason::MigrationFailed), ..Self::new(error.class, error.note) }
            }
            PgErrorKind::Fenced => Self { fenced: true, ..Self::new(error.class, error.to_string()) },
            PgErrorKind::Unreachable
            | PgErrorKind::Interrupted
            | PgErrorKind::AlreadyDone
            | PgErrorKind::NoControlSchema
            | PgErrorKind::Refused => Self::new(error.class, error.to_string()),
        }
    }
}

/// For the few errors of our own text building: all of them are mistakes of ours.
macro_rules! our_mistake {
    ($($error:ty),+) => {
        $(impl From<$error> for PgError {
            fn from(error: $error) -> Self {
                Self::bug("writing the statements", error.to_string())
            }
        })+
    };
}
our_mistake!(QuoteError, GrantError, PasswordError, RenderError);
