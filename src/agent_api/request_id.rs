//! A request's ids.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
};
use uuid::Uuid;

/// The header that carries the id, in both directions.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's ids.
#[derive(Clone)]
pub struct RequestId {
    /// Generated here, unique: what the database keeps.
    pub(crate) own: Uuid,
    /// What the client sees: its own id, if it sent a valid one.
    pub(crate) shown: HeaderValue,
    /// Whether the client sent a valid one.
    is_given: bool,
}

impl RequestId {
    /// The ids of a request.
    pub(super) fn of(request: &Request) -> Self {
        let own = Uuid::now_v7();
        let given = request.headers().get(&REQUEST_ID).filter(|v| is_valid(v.as_bytes())).cloned();
        let is_given = given.is_some();
        let shown = given.or_else(|| HeaderValue::from_str(&own.to_string()).ok());
        Self { own, shown: shown.unwrap_or(HeaderValue::from_static("-")), is_given }
    }

    /// What the client sees, as text.
    pub(crate) fn as_str(&self) -> &str {
        self.shown.to_str().unwrap_or_default()
    }

    /// The client's own id.
    pub(crate) fn given(&self) -> Option<&str> {
        self.is_given.then(|| self.as_str())
    }
}

/// Only what can't break a log line or a header.
fn is_valid(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}
