//! Errors of the plugin: one sentence and one exit code each.

use crate::domain::class::ErrorClass;

/// An error for the user at the terminal.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PluginError {
    class: ErrorClass,
    message: String,
}

impl PluginError {
    /// `message` is one sentence without a full stop and holds no secret.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    pub(crate) fn class(&self) -> ErrorClass {
        self.class
    }

    /// The exit code that scripts can rely on; clap exits with 2 for a wrong command line.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.class {
            ErrorClass::Bug => 1,
            ErrorClass::Invalid => 3,
            ErrorClass::Waiting => 4,
            ErrorClass::Denied => 5,
            ErrorClass::Transient => 6,
            ErrorClass::Conflict => 7,
        }
    }

    /// A failed request to the API server; `what` names the request ("read the Tenant acme").
    pub(crate) fn of_kube(error: &kube::Error, what: &str) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::new(
                    ErrorClass::Denied,
                    format!("can't {what}: the cluster does not accept your credentials (401 Unauthorized)"),
                ),
                403 => Self::new(ErrorClass::Denied, format!("you may not {what}: {}", status.message)),
                // For a list or watch, "not found" means that the cluster has no such resource type.
                404 => Self::new(ErrorClass::Invalid, format!("can't {what}: {}", status.message)),
                409 => Self::new(ErrorClass::Conflict, format!("can't {what}: {}", status.message)),
                code if code == 429 || code >= 500 => {
                    Self::new(ErrorClass::Transient, format!("can't {what} now: {}", status.message))
                }
                _ => Self::new(ErrorClass::Bug, format!("can't {what}: {}", status.message)),
            },
            kube::Error::Auth(error) => {
                Self::new(ErrorClass::Denied, format!("can't {what}: your credentials can't be obtained: {error}"))
            }
            kube::Error::SerdeError(error) => Self::new(
                ErrorClass::Invalid,
                format!("can't {what}: this version of the plugin can't read the answer ({error})"),
            ),
            other => Self::new(ErrorClass::Transient, format!("can't {what}: {}", innermost(other))),
        }
    }
}

/// Why a verb failed, and what is printed before the error.
#[derive(Debug)]
pub(crate) struct VerbFailure {
    pub(crate) error: PluginError,
    /// A partial answer, for standard output.
    pub(crate) output: String,
    /// For standard error, before the error.
    pub(crate) details: String,
}

impl From<PluginError> for VerbFailure {
    fn from(error: PluginError) -> Self {
        Self { error, output: String::new(), details: String::new() }
    }
}

/// The innermost cause; the errors around it only say that a request failed.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        last = inner.to_string();
        source = inner.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn every_class_has_an_exit_code_of_its_own() {
        let codes: std::collections::BTreeSet<_> =
            ErrorClass::ALL.into_iter().map(|class| PluginError::new(class, "x").exit_code()).collect();
        assert_eq!(codes.len(), ErrorClass::ALL.len());
        assert!(!codes.contains(&0) && !codes.contains(&2));
    }

    #[test]
    fn a_denied_request_is_named() {
        let status = Status { code: 403, message: "secrets is forbidden".into(), ..Status::default() };
        let error = PluginError::of_kube(&kube::Error::Api(Box::new(status)), "read the Secret a");
        assert_eq!(error.to_string(), "you may not read the Secret a: secrets is forbidden");
        assert_eq!(error.exit_code(), 5);
    }
}
