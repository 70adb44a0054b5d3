//! The error class of a failed request. Kubernetes' error codes are interpreted only here (API conventions, "Response
//! Status Kind").

use crate::{domain::class::ErrorClass, effects::error::EffectError};
use std::{future::Future, time::Duration};

/// Timeout of one request, including retries of the client. Shorter than a third of the default Lease.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Class of a failed request.
pub(crate) fn classify(error: &kube::Error) -> ErrorClass {
    match error {
        kube::Error::Api(status) => classify_status(status),
        // A reply that is truncated or not JSON says nothing about the object.
        kube::Error::SerdeError(error) if !error.is_data() => ErrorClass::Transient,
        kube::Error::BuildRequest(_) | kube::Error::SerdeError(_) => ErrorClass::Bug,
        // Everything else is about the connection to the API server: TLS, HTTP, authentication plug-ins.
        _ => ErrorClass::Transient,
    }
}

fn classify_status(status: &kube::core::Status) -> ErrorClass {
    let terminating =
        status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"));
    match status.code {
        403 if terminating => ErrorClass::Waiting,
        401 | 403 => ErrorClass::Denied,
        // The object was changed, created or deleted: the next reconcile reads it again.
        404 | 409 | 410 | 429 => ErrorClass::Transient,
        400 | 405 | 413 | 415 | 422 => ErrorClass::Bug,
        _ => ErrorClass::Transient,
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Runs one request with [`REQUEST_TIMEOUT`]. `Ok(None)` is "not found".
///
/// # Errors
/// Every other failure, with its class.
pub(crate) async fn bounded<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, EffectError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(error)) if is_not_found(&error) => Ok(None),
        Ok(Err(error)) => Err(EffectError::from_source(classify(&error), what, error)),
        Err(elapsed) => Err(EffectError::from_source(ErrorClass::Transient, what, elapsed)),
    }
}

/// [`bounded`] for requests on objects that must exist: "not found" is `Transient`.
///
/// # Errors
/// Every failure, with its class.
pub(crate) async fn required<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, EffectError> {
    bounded(what, request)
        .await?
        .ok_or_else(|| EffectError::new(ErrorClass::Transient, format!("{what}: it does not exist any more")))
}

/// [`required`] for requests that create an object or replace the version that was read. `Ok(None)` (409): an object of
/// that name exists already, or has another version; nothing was written.
///
/// # Errors
/// Every other failure, with its class.
pub(crate) async fn unless_taken<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, EffectError> {
    let request = async {
        match request.await {
            Err(error) if is_conflict(&error) => Ok(None),
            answer => answer.map(Some),
        }
    };
    required(what, request).await
}

/// [`unless_taken`] for writers that can't continue after a conflict: it is `Transient`.
///
/// # Errors
/// Every failure, with its class.
pub(crate) async fn unless_changed<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, EffectError> {
    let written = unless_taken(what, request).await?;
    written.ok_or_else(|| EffectError::new(ErrorClass::Transient, format!("{what}: another version of it exists")))
}
