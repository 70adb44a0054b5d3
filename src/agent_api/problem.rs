//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable code and the request's id.

use super::{database::DatabaseError, storage::Storage};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

/// What went wrong; the closed list of codes that clients may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 401: no token.
    MissingToken,
    /// 401: a token that doesn't verify, for whatever reason.
    InvalidToken,
    /// 403: the token is another tenant's than the path's, whether or not that one exists.
    TenantMismatch,
    /// 403: the token doesn't allow this.
    InsufficientScope,
    /// 403: the tenant is suspended.
    TenantSuspended,
    /// 410: the tenant is being deleted.
    TenantDeleting,
    /// 503: this replica doesn't serve the tenant yet.
    TenantNotServed,
    /// 503: this replica has had no contact with its registry for too long.
    RegistryStale,
    /// 404: no such path.
    NotFound,
    /// 405: not with this method.
    MethodNotAllowed,
    /// 404: this user has no such conversation.
    ConversationNotFound,
    /// 400: the body is not what it should be.
    MalformedBody,
    /// 408: the body took too long to arrive.
    BodyTimeout,
    /// 413: the body is too large.
    BodyTooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 422: a field, named in `field`, has a value that it can't have.
    InvalidField,
    /// 422: a setting, named in `field`, that the tenant may not change.
    SettingLocked,
    /// 503: too much to do at the moment.
    Busy,
    /// 429: the tenant uses all that one tenant may use at once.
    TenantBusy,
    /// 503: the tenant's data can't be reached.
    DatabaseUnavailable,
    /// 507: the tenant keeps as much as it may; nothing is added.
    StorageLimitReached,
    /// 422: the message is too long for the model.
    ContextLengthExceeded,
    /// 422: the provider's filter refuses the content.
    ContentFiltered,
    /// 429: the provider is over its limit.
    UpstreamRateLimited,
    /// 502: the provider has no such model.
    UpstreamModelNotFound,
    /// 502: the provider refuses the credential.
    UpstreamCredentialRefused,
    /// 502: the provider failed.
    UpstreamFailed,
    /// 504: the provider took too long.
    UpstreamTimeout,
    /// 500: our mistake.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 29] = [
        Self::MissingToken,
        Self::InvalidToken,
        Self::TenantMismatch,
        Self::InsufficientScope,
        Self::TenantSuspended,
        Self::TenantDeleting,
        Self::TenantNotServed,
        Self::RegistryStale,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::ConversationNotFound,
        Self::MalformedBody,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidField,
        Self::SettingLocked,
        Self::Busy,
        Self::TenantBusy,
        Self::DatabaseUnavailable,
        Self::StorageLimitReached,
        Self::ContextLengthExceeded,
        Self::ContentFiltered,
        Self::UpstreamRateLimited,
        Self::UpstreamModelNotFound,
        Self::UpstreamCredentialRefused,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::Internal,
    ];

    /// Status, stable name, title.
    const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::MissingToken => (StatusCode::UNAUTHORIZED, "missing_token", "A bearer token is required"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token", "The token is not valid"),
            Self::TenantMismatch => (StatusCode::FORBIDDEN, "tenant_mismatch", "The token is for another tenant"),
            Self::InsufficientScope => {
                (StatusCode::FORBIDDEN, "insufficient_scope", "The token's scope does not allow this")
            }
            Self::TenantSuspended => (StatusCode::FORBIDDEN, "tenant_suspended", "The tenant is suspended"),
            Self::TenantDeleting => (StatusCode::GONE, "tenant_deleting", "The tenant is being deleted"),
            Self::TenantNotServed => {
                (StatusCode::SERVICE_UNAVAILABLE, "tenant_not_served", "The tenant is not served here yet")
            }
            Self::RegistryStale => {
                (StatusCode::SERVICE_UNAVAILABLE, "registry_stale", "The tenant registry is out of reach")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "There is nothing here"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Not with this method"),
            Self::ConversationNotFound => {
                (StatusCode::NOT_FOUND, "conversation_not_found", "There is no such conversation")
            }
            Self::MalformedBody => (StatusCode::BAD_REQUEST, "malformed_body", "The body is not valid JSON"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout", "The body took too long to arrive"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be application/json")
            }
            Self::InvalidField => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", "A field is not valid"),
            Self::SettingLocked => {
                (StatusCode::UNPROCESSABLE_ENTITY, "setting_locked", "The setting can't be changed by the tenant")
            }
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "There is too much to do at the moment"),
            Self::TenantBusy => {
                (StatusCode::TOO_MANY_REQUESTS, "tenant_busy", "The tenant uses all that one tenant may use at once")
            }
            Self::DatabaseUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", "The tenant's data is out of reach")
            }
            Self::StorageLimitReached => {
                (StatusCode::INSUFFICIENT_STORAGE, "storage_limit_reached", "The tenant's storage limit is reached")
            }
            Self::ContextLengthExceeded => {
                (StatusCode::UNPROCESSABLE_ENTITY, "context_length_exceeded", "The message is too long for the model")
            }
            Self::ContentFiltered => {
                (StatusCode::UNPROCESSABLE_ENTITY, "content_filtered", "The model's provider refuses the content")
            }
            Self::UpstreamRateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "upstream_rate_limited", "The model's provider is over its limit")
            }
            Self::UpstreamModelNotFound => {
                (StatusCode::BAD_GATEWAY, "upstream_model_not_found", "The model's provider has no such model")
            }
            Self::UpstreamCredentialRefused => {
                (StatusCode::BAD_GATEWAY, "upstream_credential_refused", "The model's provider refuses the credential")
            }
            Self::UpstreamFailed => (StatusCode::BAD_GATEWAY, "upstream_failed", "The model's provider failed"),
            Self::UpstreamTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "The model's provider took too long")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side"),
        }
    }

    /// Its status.
    pub const fn status(self) -> StatusCode {
        self.facts().0
    }

    /// Its stable name.
    pub const fn as_str(self) -> &'static str {
        self.facts().1
    }

    /// When to come back, in seconds.
    const fn retry_after(self) -> Option<&'static str> {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => Some("1"),
            StatusCode::SERVICE_UNAVAILABLE => Some(match self {
                Self::Busy => "1",
                _ => "5",
            }),
            _ => None,
        }
    }

    /// How to authenticate (RFC 6750, 3).
    const fn challenge(self) -> Option<&'static str> {
        match self {
            Self::MissingToken => Some("Bearer"),
            Self::InvalidToken => Some("Bearer error=\"invalid_token\""),
            Self::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
            _ => None,
        }
    }
}

/// An error for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub code: Code,
    detail: Option<String>,
    field: Option<String>,
    message_id: Option<Uuid>,
    /// When to come back, in seconds, where it isn't the code's usual time.
    retry_after: Option<u32>,
}

/// The body without the request's id, which [`super::http`] adds on the way out.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
}

impl Problem {
    /// Why nothing is added to what a tenant keeps.
    pub fn storage_full(storage: Storage) -> Self {
        let (used, limit) = (storage.used_bytes.unwrap_or_default(), storage.limit_bytes.unwrap_or_default());
        Self::new(Code::StorageLimitReached).detail(format!(
            "the tenant keeps {used} bytes and may keep {limit}: nothing is added before data is deleted (for a user: \
             DELETE users/{{sub}}) or the Tenant's spec.database.storageLimit is raised"
        ))
    }

    /// A problem of this kind.
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, field: None, message_id: None, retry_after: None }
    }

    /// A field with a value that it can't have, and the rule.
    pub fn field(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidField).detail(rule) }
    }

    /// A setting that the tenant may not change.
    pub fn locked(field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::SettingLocked) }
    }

    /// Names the message that it is about.
    #[must_use]
    pub fn message_id(mut self, id: Uuid) -> Self {
        self.message_id = Some(id);
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: Option<u32>) -> Self {
        self.retry_after = seconds;
        self
    }

    /// Says more.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        let code = match &error {
            DatabaseError::TenantBusy => Code::TenantBusy,
            DatabaseError::Busy => Code::Busy,
            DatabaseError::NoCell(_)
            | DatabaseError::Replaced
            | DatabaseError::Refused(_)
            | DatabaseError::Untrusted(_) => Code::TenantNotServed,
            DatabaseError::Paused
            | DatabaseError::Unreachable(_)
            | DatabaseError::TooSlow(_)
            | DatabaseError::GivenUp(_)
            | DatabaseError::OutcomeUnknown(_) => Code::DatabaseUnavailable,
            DatabaseError::Statement(_) | DatabaseError::Abandoned => Code::Internal,
        };
        tracing::warn!(
            class = error.class().as_str(),
            error = %crate::telemetry::Chain(&error),
            "a transaction failed"
        );
        Self::new(code)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { code, detail, field, message_id, retry_after } = self;
        let (status, name, title) = code.facts();
        let body = Body {
            r#type: format!("urn:agent-tenancy:problem:{name}"),
            title,
            status: status.as_u16(),
            code: name,
            detail,
            field,
            message_id,
            request_id: None,
        };
        let mut response = status.into_response();
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value: Option<&'static str>| {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        };
        set(header::CONTENT_TYPE, Some("application/problem+json"));
        set(header::RETRY_AFTER, code.retry_after());
        set(header::WWW_AUTHENTICATE, code.challenge());
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(body);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_every_429_and_503_says_when_to_come_back() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.retry_after().is_some(), [429, 503].contains(&code.status().as_u16()), "{code:?}");
            assert_eq!(code.status() == 401, matches!(code, Code::MissingToken | Code::InvalidToken));
        }
    }
}
