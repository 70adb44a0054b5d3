//! The admin API, on a separate port. A caller needs a token for its audience, and permission for the request. Few requests
//! are served at the same time, so that reconciles are not slowed down.

use crate::controller::{
    context::{ContextSlot, OperatorContext},
    metrics::OperatorMetrics,
};
use crate::{
    api::Tenant,
    clock::Clock,
    domain::{
        admin_api::{RefusedRequest, TOKEN_HEADER},
        class::ErrorClass,
    },
    effects::{
        error::EffectError,
        kubernetes::{
            cache::Key,
            lease::LeaderLease,
            review::{AuthenticatedUser, Reviews},
        },
    },
};
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use kube::Client;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Most plans at the same time.
const CONCURRENT_PLANS: usize = 2;
/// Most requests per second, and in a burst. Each costs the API server up to three reviews.
const PER_SECOND: f64 = 10.0;
const BURST: f64 = 20.0;
/// Largest body, in bytes: many times the largest Tenant.
const BODY_LIMIT: usize = 128 * 1024;
/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The state of the admin API. Clones share it.
#[derive(Clone)]
pub(crate) struct AdminApi {
    /// The context of the leader; empty until this operator leads.
    context: ContextSlot,
    /// Authenticates callers and checks their permissions.
    reviews: Reviews,
    /// Accepted audiences of tokens; empty: that of the API server.
    audiences: Arc<[String]>,
    /// The Lease that names the leader.
    lease: LeaderLease,
    /// The limits of requests.
    pub(crate) limits: Arc<RequestLimits>,
}

/// The limits of requests.
pub(crate) struct RequestLimits {
    pub(crate) plans: Semaphore,
    clock: Clock,
    /// A token bucket.
    bucket: Mutex<TokenBucket>,
}

/// Requests that are allowed now, and the time of that count.
struct TokenBucket {
    left: f64,
    at: Duration,
}

impl RequestLimits {
    fn new(clock: Clock) -> Self {
        let bucket = Mutex::new(TokenBucket { left: BURST, at: clock.monotonic() });
        Self { plans: Semaphore::new(CONCURRENT_PLANS), clock, bucket }
    }

    fn try_take(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let earned = now.saturating_sub(bucket.at).as_secs_f64() * PER_SECOND;
        let left = (bucket.left + earned).min(BURST);
        let allowed = left >= 1.0;
        *bucket = TokenBucket { left: if allowed { left - 1.0 } else { left }, at: now };
        allowed
    }
}

/// An answer with an error.
pub(crate) struct AdminError(StatusCode, RefusedRequest);

impl AdminError {
    pub(crate) fn new(code: StatusCode, error: impl Into<String>) -> Self {
        Self(code, RefusedRequest { error: error.into(), leader: None })
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let Self(code, refusal) = self;
        let text = serde_json::to_string(&refusal).unwrap_or_default();
        let mut response = (code, [(header::CONTENT_TYPE, "application/json")], text).into_response();
        if matches!(code, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<EffectError> for AdminError {
    fn from(error: EffectError) -> Self {
        let code = match error.class {
            ErrorClass::Transient | ErrorClass::Waiting => StatusCode::SERVICE_UNAVAILABLE,
            ErrorClass::Denied | ErrorClass::Bug | ErrorClass::Invalid | ErrorClass::Conflict => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(code, format!("the operator can't {}", error.chain()))
    }
}

impl AdminApi {
    /// Creates the admin API. It serves requests once `context` is set.
    pub(crate) fn new(
        context: ContextSlot,
        client: &Client,
        audiences: Arc<[String]>,
        lease: LeaderLease,
        clock: Clock,
    ) -> Self {
        let (reviews, limits) = (Reviews::new(client.clone()), Arc::new(RequestLimits::new(clock)));
        Self { context, reviews, audiences, lease, limits }
    }

    /// Authenticates the caller by its token.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<AuthenticatedUser, AdminError> {
        let refused = |why: &str| {
            let audience = match self.audiences.first() {
                Some(audience) => format!("for the audience '{audience}'"),
                None => "that the API server accepts".to_owned(),
            };
            AdminError::new(StatusCode::UNAUTHORIZED, format!("{why}; a bearer token {audience} is required"))
        };
        let token = find_token(headers).ok_or_else(|| refused("no token was given"))?;
        if !self.limits.try_take() {
            return Err(AdminError::new(StatusCode::TOO_MANY_REQUESTS, "too many requests; try again in a second"));
        }
        let caller = self.reviews.observe_caller(token, &self.audiences).await?;
        caller.ok_or_else(|| refused("the token is not accepted"))
    }

    /// The context of this operator, if it leads and its caches are complete.
    pub(crate) async fn leader_context(&self) -> Result<Arc<OperatorContext>, AdminError> {
        let ready = |context: &&Arc<OperatorContext>| context.synced.get().is_some() && context.fence.is_leader();
        if let Some(context) = self.context.get().filter(ready) {
            return Ok(Arc::clone(context));
        }
        let leader = self.lease.observe().await?.map(|record| record.holder).filter(|holder| !holder.is_empty());
        let error = match (&leader, self.context.get()) {
            (_, Some(_)) => "this operator is still filling its caches".to_owned(),
            (Some(leader), None) => format!("this operator is a standby; '{leader}' leads"),
            (None, None) => "there is no leader yet".to_owned(),
        };
        Err(AdminError(StatusCode::SERVICE_UNAVAILABLE, RefusedRequest { error, leader }))
    }

    /// Whether the caller may do this with the Tenants of all namespaces.
    pub(crate) async fn observe_cluster_permission(
        &self,
        caller: &AuthenticatedUser,
        verb: &str,
    ) -> Result<bool, AdminError> {
        Ok(self.reviews.observe_cluster_permission::<Tenant>(caller, verb).await?)
    }

    /// Checks that the caller has a permission on a Tenant.
    pub(crate) async fn check_permission(
        &self,
        caller: &AuthenticatedUser,
        verb: &str,
        key: &Key,
    ) -> Result<(), AdminError> {
        if self.reviews.observe_permission::<Tenant>(caller, verb, key).await? {
            return Ok(());
        }
        let error = format!(
            "'{}' may not {verb} tenants.{} in namespace '{}'",
            caller.name(),
            crate::api::names::GROUP,
            key.namespace
        );
        Err(AdminError::new(StatusCode::FORBIDDEN, error))
    }
}

/// The token, from the caller or from the proxy of the API server.
fn find_token(headers: &HeaderMap) -> Option<&str> {
    let text = |value: &'static str| headers.get(value).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    bearer.or(text(TOKEN_HEADER)).map(str::trim).filter(|token| !token.is_empty())
}

/// Reads a body of bounded length.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, AdminError> {
    let too_long = |_| {
        AdminError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body can't be read, or has more than {BODY_LIMIT} bytes"),
        )
    };
    to_bytes(body, BODY_LIMIT).await.map_err(too_long)
}

/// The answer to a request: its result as JSON, or an error.
pub(crate) async fn answer(request: impl Future<Output = Result<String, AdminError>>) -> Response {
    let result = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
    match result.unwrap_or_else(|_| Err(AdminError::new(StatusCode::SERVICE_UNAVAILABLE, "the request timed out"))) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// A route with its name in the metrics.
#[derive(Clone)]
pub(crate) struct CountedRoute {
    pub(crate) metrics: OperatorMetrics,
    pub(crate) name: &'static str,
}

/// Counts the answers of a route.
pub(crate) async fn count(State(route): State<CountedRoute>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    route.metrics.count_admin_request(route.name, response.status().as_u16());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_limited_per_second_and_in_a_burst() {
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let limits = RequestLimits::new(clock.clone());
        let requests = || (0..100).filter(|_| limits.try_take()).count();
        assert_eq!(requests(), 20);
        clock.advance(Duration::from_secs(1));
        assert_eq!(requests(), 10);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(requests(), 20);
    }

    #[test]
    fn a_token_is_found_in_either_header() {
        let of = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(header::HeaderName::from_static(name), value.parse().unwrap())]);
            find_token(&headers).map(str::to_owned)
        };
        assert_eq!(of("authorization", "Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of(TOKEN_HEADER, "abc").as_deref(), Some("abc"));
        assert_eq!(of("authorization", "Basic abc"), None);
        assert_eq!(of("authorization", "Bearer "), None);
    }
}
