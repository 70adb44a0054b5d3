//! From an API server's answer to a class. The one place where Kubernetes' error codes are read
//! (API conventions, "Response Status Kind").

use crate::{domain::class::ErrorClass, effects::error::EffectError};
use std::{future::Future, time::Duration};

/// Longest wait for one request, retries of the client included. Shorter than a third of the default Lease.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Class of a failed request.
pub fn classify(error: &kube::Error) -> ErrorClass {
    match error {
        kube::Error::Api(status) => classify_status(status),
        // A reply that is no JSON, or only the beginning of it, says nothing of the object.
        kube::Error::SerdeError(error) if !error.is_data() => ErrorClass::Transient,
        kube::Error::BuildRequest(_) | kube::Error::SerdeError(_) => ErrorClass::Bug,
        // Everything else is the way to the API server: connection, TLS, HTTP, authentication plug-ins.
        _ => ErrorClass::Transient,
    }
}

fn classify_status(status: &kube::core::Status) -> ErrorClass {
    let terminating =
        status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"));
    match status.code {
        403 if terminating => ErrorClass::Waiting,
        401 | 403 => ErrorClass::Denied,
        // The object moved on, or appeared, or is gone: the next pass sees it as it is.
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

/// Runs one request with a bound. `Ok(None)` is "not found".
///
/// # Errors
/// Every other failure, with its class.
pub async fn bounded<T>(
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

/// [`bounded`] for requests on objects that must be there: "not found" means that the world moved on.
///
/// # Errors
/// Every failure, with its class.
pub async fn required<T>(what: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, EffectError> {
    bounded(what, request).await?.ok_or_else(|| EffectError::new(ErrorClass::Transient, format!("{what}: it is gone")))
}

/// [`required`] for requests that create an object or replace the version that was seen. `Ok(None)`: one of that name is
/// there already, or its version is another; nothing was written.
///
/// # Errors
/// Every other failure, with its class.
pub async fn unless_taken<T>(
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

/// [`unless_taken`] for a write that nobody else makes: what was there instead is `Transient`.
///
/// # Errors
/// Every failure, with its class.
pub async fn unless_changed<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, EffectError> {
    let written = unless_taken(what, request).await?;
    written.ok_or_else(|| EffectError::new(ErrorClass::Transient, format!("{what}: another version of it exists")))
}
