//! The door of the operator for those who ask it something, on a port of its own. Whoever comes has to show a token that was
//! made for it and to have the right to what is asked; few may come at once, so that passes don't notice.

use crate::controller::{context::Context, metrics::OperatorMetrics};
use crate::{
    api::Tenant,
    clock::Clock,
    domain::{
        admin_api::{Refusal, TOKEN_HEADER},
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
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Most plans at once.
const AT_ONCE: usize = 2;
/// Most requests in a second, and in a burst. Each costs the API server up to three reviews.
const PER_SECOND: f64 = 10.0;
const BURST: f64 = 20.0;
/// Longest Tenant, in bytes: many times what the CRD allows.
const MOST_BYTES: usize = 128 * 1024;
/// Longest time of one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the door needs. Clones share it.
#[derive(Clone)]
pub(crate) struct AdminApi {
    /// The work of this operator; empty until it leads.
    context: Arc<OnceLock<Arc<Context>>>,
    /// Who comes, and what they may do.
    reviews: Reviews,
    /// Whom a token has to be made for; empty: the API server.
    audiences: Arc<[String]>,
    /// Where the leader is named.
    lease: LeaderLease,
    /// How many may come.
    pub(crate) limits: Arc<Limits>,
}

/// How many may come, and how often.
pub(crate) struct Limits {
    pub(crate) at_once: Semaphore,
    clock: Clock,
    /// How many more may come now, and when that was so.
    bucket: Mutex<(f64, Duration)>,
}

impl Limits {
    /// With this clock.
    fn new(clock: Clock) -> Self {
        let bucket = Mutex::new((BURST, clock.monotonic()));
        Self { at_once: Semaphore::new(AT_ONCE), clock, bucket }
    }

    fn may_come(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let earned = now.saturating_sub(bucket.1).as_secs_f64() * PER_SECOND;
        let full = (bucket.0 + earned).min(BURST);
        let may = full >= 1.0;
        *bucket = (if may { full - 1.0 } else { full }, now);
        may
    }
}

/// An answer that grants nothing.
pub(crate) struct Refused(StatusCode, Refusal);

impl Refused {
    pub(crate) fn new(code: StatusCode, error: impl Into<String>) -> Self {
        Self(code, Refusal { error: error.into(), leader: None })
    }
}

impl IntoResponse for Refused {
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

impl From<EffectError> for Refused {
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
    /// A door to the work that the slot gets once there is some.
    pub(crate) fn new(
        context: Arc<OnceLock<Arc<Context>>>,
        client: &Client,
        audiences: Arc<[String]>,
        lease: LeaderLease,
        clock: Clock,
    ) -> Self {
        let (reviews, limits) = (Reviews::new(client.clone()), Arc::new(Limits::new(clock)));
        Self { context, reviews, audiences, lease, limits }
    }

    /// Lets in whoever shows a good token.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<AuthenticatedUser, Refused> {
        let refused = |why: &str| {
            let made_for = match self.audiences.first() {
                Some(audience) => format!("made for the audience '{audience}'"),
                None => "that the API server takes".to_owned(),
            };
            Refused::new(StatusCode::UNAUTHORIZED, format!("{why}; it has to be a bearer token {made_for}"))
        };
        let token = find_token(headers).ok_or_else(|| refused("no token was given"))?;
        if !self.limits.may_come() {
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many ask; try again in a second"));
        }
        let caller = self.reviews.observe_caller(token, &self.audiences).await?;
        caller.ok_or_else(|| refused("the token is not accepted"))
    }

    /// The work of this operator, if it leads and has read what is there.
    pub(crate) async fn leading(&self) -> Result<Arc<Context>, Refused> {
        let ready = |context: &&Arc<Context>| context.synced.get().is_some() && context.fence.is_leader();
        if let Some(context) = self.context.get().filter(ready) {
            return Ok(Arc::clone(context));
        }
        let leader = self.lease.observe().await?.map(|record| record.holder).filter(|holder| !holder.is_empty());
        let error = match (&leader, self.context.get()) {
            (_, Some(_)) => "this operator is still reading what is there".to_owned(),
            (Some(leader), None) => format!("this operator stands by; '{leader}' leads"),
            (None, None) => "nobody leads yet".to_owned(),
        };
        Err(Refused(StatusCode::SERVICE_UNAVAILABLE, Refusal { error, leader }))
    }

    /// Whether the caller has a right on a Tenant.
    pub(crate) async fn check_right(&self, caller: &AuthenticatedUser, verb: &str, key: &Key) -> Result<(), Refused> {
        if self.reviews.observe_permission::<Tenant>(caller, verb, key).await? {
            return Ok(());
        }
        let error = format!(
            "'{}' may not {verb} tenants.{} in namespace '{}'",
            caller.name(),
            crate::api::names::GROUP,
            key.namespace
        );
        Err(Refused::new(StatusCode::FORBIDDEN, error))
    }
}

/// The token, as the caller or as the API server's proxy passes it on.
fn find_token(headers: &HeaderMap) -> Option<&str> {
    let plain = |value: &'static str| headers.get(value).and_then(|value| value.to_str().ok());
    let bearer = plain("authorization").and_then(|text| text.strip_prefix("Bearer "));
    bearer.or(plain(TOKEN_HEADER)).map(str::trim).filter(|token| !token.is_empty())
}

/// A body of bounded length.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, Refused> {
    let too_long = |_| {
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has to be read, and at most {MOST_BYTES} bytes"))
    };
    to_bytes(body, MOST_BYTES).await.map_err(too_long)
}

/// What is granted, as JSON, or why it is not.
pub(crate) async fn answer(granted: impl Future<Output = Result<String, Refused>>) -> Response {
    let granted = tokio::time::timeout(PATIENCE, granted).await;
    match granted.unwrap_or_else(|_| Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "it took too long"))) {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// Counts every answer to those who ask for this.
pub(crate) async fn count(
    State((metrics, name)): State<(OperatorMetrics, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    metrics.count_admin_request(name, response.status().as_u16());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_come_at_once_and_few_all_the_time() {
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let limits = Limits::new(clock.clone());
        let come = || (0..100).filter(|_| limits.may_come()).count();
        assert_eq!(come(), 20);
        clock.advance(Duration::from_secs(1));
        assert_eq!(come(), 10);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(come(), 20);
    }

    #[test]
    fn a_token_is_found_in_either_place() {
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
