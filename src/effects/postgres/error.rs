//! Errors of database steps. They never contain the text of a statement, which can contain a password's verifier.

use super::render::RenderError;
use crate::{
    api::Reason,
    domain::{
        class::ErrorClass,
        migrations::GrantError,
        scram::PasswordError,
        sql::QuoteError,
        sqlstate::{self, Meaning},
        tls::explain_tls,
    },
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
    /// No connection, because the server can't be trusted or offers no TLS; nothing was sent.
    Untrusted,
    /// The connection broke, or a timeout expired, after the statements were sent. It is unknown whether they were run.
    Interrupted,
    /// The server takes no writes: it is in recovery, read-only, or its disk is full. Nothing was changed, and what it shows may
    /// be outdated.
    Unwritable,
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
        Self { class: ErrorClass::Denied, kind: PgErrorKind::Untrusted, sqlstate: None, step, note }
    }

    /// The reason that a condition gives, where the class alone doesn't say it.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self.kind {
            // The same text as in the condition, which is later derived from the ledger.
            PgErrorKind::FileFailed => Some(Reason::MigrationFailed),
            PgErrorKind::Untrusted => Some(Reason::TlsFailed),
            PgErrorKind::Unreachable
            | PgErrorKind::Interrupted
            | PgErrorKind::Fenced
            | PgErrorKind::AlreadyDone
            | PgErrorKind::NoControlSchema
            | PgErrorKind::Unwritable
            | PgErrorKind::Refused => None,
        }
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
                let meaning = sqlstate::resolve_meaning(&code, server.and_then(|s| s.routine()));
                let class = classify(meaning);
                let kind = match code.as_str() {
                    sqlstate::FENCED => PgErrorKind::Fenced,
                    sqlstate::ALREADY_DONE => PgErrorKind::AlreadyDone,
                    // The backend was terminated. It may have committed after its last reply.
                    "57P01" | "57P02" | "08006" | "40003" if sent => PgErrorKind::Interrupted,
                    _ if !sent => PgErrorKind::Unreachable,
                    sqlstate::READ_ONLY | sqlstate::DISK_FULL => PgErrorKind::Unwritable,
                    _ => PgErrorKind::Refused,
                };
                let note = if code == sqlstate::SYNTAX_ERROR {
                    format!("the server refused a statement (SQLSTATE {code})")
                } else if meaning == Meaning::RefusedByTrigger {
                    // Where it was raised: the name of the function says who refuses.
                    let place = server.and_then(|s| s.r#where()).and_then(|text| text.lines().next());
                    let place = place.map(|place| format!(", in {place}")).unwrap_or_default();
                    format!("a trigger of this database refused: {}{place} (SQLSTATE {code})", refusal.message())
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

    /// The server is in recovery: what it shows may be outdated, and a missing row means nothing.
    pub(super) fn in_recovery(step: &'static str) -> Self {
        let note = "the server is in recovery; it is a standby, or no longer the primary".to_owned();
        Self { class: ErrorClass::Transient, kind: PgErrorKind::Unwritable, sqlstate: None, step, note }
    }

    /// Whether the connection must not be used again.
    pub(super) fn ends_connection(&self) -> bool {
        match self.kind {
            PgErrorKind::Unreachable | PgErrorKind::Untrusted | PgErrorKind::Interrupted | PgErrorKind::Unwritable => {
                true
            }
            PgErrorKind::Fenced
            | PgErrorKind::AlreadyDone
            | PgErrorKind::NoControlSchema
            | PgErrorKind::FileFailed
            | PgErrorKind::Refused => {
                let meaning = self.sqlstate.as_deref().map(|code| sqlstate::resolve_meaning(code, None));
                meaning.is_none_or(|meaning| meaning == Meaning::Unavailable)
            }
        }
    }

    /// The SQLSTATE, or an empty text.
    pub(super) fn code(&self) -> &str {
        self.sqlstate.as_deref().unwrap_or_default()
    }
}

/// The class of an error of the server.
const fn classify(meaning: Meaning) -> ErrorClass {
    match meaning {
        Meaning::Unavailable
        | Meaning::RolledBack
        | Meaning::TimedOut
        | Meaning::Contended
        | Meaning::Duplicate
        | Meaning::Stale => ErrorClass::Transient,
        Meaning::Denied | Meaning::RefusedByTrigger => ErrorClass::Denied,
        Meaning::Missing | Meaning::Exists | Meaning::StillNeeded | Meaning::Conflict => ErrorClass::Conflict,
        Meaning::AlreadyDone | Meaning::StalePlan | Meaning::Statement => ErrorClass::Bug,
    }
}

impl From<PgError> for EffectError {
    fn from(error: PgError) -> Self {
        let text = if error.kind == PgErrorKind::FileFailed { error.note.clone() } else { error.to_string() };
        let fenced = error.kind == PgErrorKind::Fenced;
        Self { reason: error.reason(), fenced, ..Self::new(error.class, text) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: &str) -> ErrorClass {
        classify(sqlstate::resolve_meaning(code, None))
    }

    #[test]
    fn what_goes_away_by_itself_is_retried() {
        for code in [
            "08006",
            "40001",
            "40P01",
            "53300",
            "55P03",
            "57014",
            "57P01",
            "57P02",
            "57P03",
            "58030",
            sqlstate::READ_ONLY,
            sqlstate::DISK_FULL,
            sqlstate::FENCED,
            sqlstate::MOVED_ON,
        ] {
            assert_eq!(class(code), ErrorClass::Transient, "{code}");
        }
    }

    #[test]
    fn a_missing_privilege_waits_for_people_and_a_foreign_object_is_a_conflict() {
        for code in ["28P01", "28000", "3D000", "42501", "P0001"] {
            assert_eq!(class(code), ErrorClass::Denied, "{code}");
        }
        for code in [sqlstate::FOREIGN_ROW, sqlstate::FOREIGN_MARK, sqlstate::DEPENDENTS, sqlstate::LOST, "42710"] {
            assert_eq!(class(code), ErrorClass::Conflict, "{code}");
        }
        assert_eq!((class(sqlstate::SYNTAX_ERROR), class("")), (ErrorClass::Bug, ErrorClass::Bug));
    }
}
