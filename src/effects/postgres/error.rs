//! Errors of database steps. They never contain the text of a statement, which can contain a password's verifier.

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
    /// Decides whether and when it is retried.
    pub class: ErrorClass,
    /// The case, for callers that treat it differently.
    pub kind: PgErrorKind,
    /// The SQLSTATE, if the server returned an error.
    pub sqlstate: Option<String>,
    /// Name of the step.
    pub step: &'static str,
    /// The message.
    pub note: String,
}

/// Cases that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgErrorKind {
    /// No connection; nothing was sent.
    Unreachable,
    /// The connection broke, or a timeout expired, after the statements were sent. It is unknown whether they were run.
    Interrupted,
    /// A newer leader exists. This process has to end.
    Fenced,
    /// The change was made before.
    AlreadyDone,
    /// The control schema does not exist.
    NoControlSchema,
    /// The server refused a migration file, which is recorded in the ledger.
    FileFailed,
    /// The server refused the statements, or they were not sent. Nothing was changed.
    Refused,
}

impl PgError {
    /// A bug was found before anything was sent.
    pub(super) fn bug(step: &'static str, note: impl Into<String>) -> Self {
        Self { class: ErrorClass::Bug, kind: PgErrorKind::Refused, sqlstate: None, step, note: note.into() }
    }

    /// No connection could be opened.
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

    /// It is unknown whether the change was made.
    pub(super) fn interrupted(step: &'static str, note: impl Into<String>) -> Self {
        Self { class: ErrorClass::Transient, kind: PgErrorKind::Interrupted, sqlstate: None, step, note: note.into() }
    }

    /// The server is not trusted. Only a user can change that.
    fn untrusted(step: &'static str, note: String) -> Self {
        Self { class: ErrorClass::Denied, kind: PgErrorKind::Unreachable, sqlstate: None, step, note }
    }

    /// Converts an error of sqlx. `sent`: the statements had been sent.
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
                    // The backend was terminated. It may have committed after its last reply.
                    "57P01" | "57P02" | "08006" | "40003" if sent => PgErrorKind::Interrupted,
                    _ if !sent => PgErrorKind::Unreachable,
                    _ => PgErrorKind::Refused,
                };
                let note = if code == sqlstate::SYNTAX_ERROR {
                    format!("the server refused a statement (SQLSTATE {code})")
                } else {
                    // This detail names the dependent objects. Other details can quote rows.
                    let detail = server.and_then(|s| s.detail()).filter(|_| code == sqlstate::STILL_NEEDED);
                    let detail = detail.map(|d| format!(": {}", d.replace('\n', ", "))).unwrap_or_default();
                    format!("{}{detail} (SQLSTATE {code})", refusal.message())
                };
                Self { class, kind, sqlstate: Some(code), step, note }
            }
            sqlx::Error::Io(error) => broken(step, format!("the connection broke: {error}")),
            sqlx::Error::Tls(error) => Self::untrusted(step, format!("TLS failed: {error}")),
            sqlx::Error::Protocol(note) => broken(step, format!("the connection is out of sync: {note}")),
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

    /// The SQLSTATE, or an empty text.
    pub(super) fn code(&self) -> &str {
        self.sqlstate.as_deref().unwrap_or_default()
    }
}

impl From<PgError> for EffectError {
    fn from(error: PgError) -> Self {
        match error.kind {
            // The same text as in the condition, which is later derived from the ledger.
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

/// Errors of rendering SQL are bugs.
macro_rules! impl_from_render_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for PgError {
            fn from(error: $error) -> Self {
                Self::bug("rendering the SQL", error.to_string())
            }
        })+
    };
}
impl_from_render_errors!(QuoteError, GrantError, PasswordError, RenderError);
