//! The API's routes, and what every request gets: an id, a count, and errors in one form.

mod body;
mod chat;
mod cursor;
mod export;
mod history;
mod settings;
mod users;

use super::{
    Context,
    problem::{Body as ProblemBody, Code, Problem},
    storage::{STORAGE_WARNING, Storage},
};
use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use std::sync::Arc;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CHAT: &str = "/api/v1/tenants/{tenantId}/chat";
const SETTINGS: &str = "/api/v1/tenants/{tenantId}/settings";
const EXPORT: &str = "/api/v1/tenants/{tenantId}/export";
const USER: &str = "/api/v1/tenants/{tenantId}/users/{sub}";

/// A request's ids.
#[derive(Clone)]
pub(crate) struct RequestId {
    /// Made here, unique: what the database keeps.
    pub(crate) own: Uuid,
    /// What the client sees: its own, if it sent a proper one.
    pub(crate) shown: HeaderValue,
}

impl RequestId {
    fn of(request: &Request) -> Self {
        let own = Uuid::now_v7();
        let given = request.headers().get(&REQUEST_ID).filter(|v| is_proper(v.as_bytes())).cloned();
        let shown = given.or_else(|| HeaderValue::from_str(&own.to_string()).ok());
        Self { own, shown: shown.unwrap_or(HeaderValue::from_static("-")) }
    }

    /// What the client sees, as text.
    pub(crate) fn as_str(&self) -> &str {
        self.shown.to_str().unwrap_or_default()
    }
}

/// Only what can't break a log line or a header.
fn is_proper(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
}

/// All routes of the API.
pub fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route(CHAT, get(history::read).post(chat::send))
        .route(SETTINGS, get(settings::read).put(settings::change))
        .route(EXPORT, get(export::read))
        .route(USER, delete(users::erase))
        .fallback(|| async { Problem::new(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(Code::MethodNotAllowed) })
        .layer(middleware::from_fn_with_state(Arc::clone(&context), around))
        .with_state(context)
}

async fn around(
    State(context): State<Arc<Context>>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(&request);
    let method = request.method().clone();
    let route = match path.as_ref().map(MatchedPath::as_str) {
        Some(CHAT) => CHAT,
        Some(SETTINGS) => SETTINGS,
        Some(EXPORT) => EXPORT,
        Some(USER) => USER,
        Some(_) | None => "other",
    };
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    context.metrics.note_request(&method, route, response.status().as_u16());
    if let Some(problem) = response.extensions_mut().remove::<ProblemBody>() {
        *response.body_mut() = render(problem, &id);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response.headers_mut().insert(REQUEST_ID, id.shown);
    response
}

fn render(mut problem: ProblemBody, id: &RequestId) -> Body {
    problem.request_id = Some(id.as_str().to_owned());
    Body::from(serde_json::to_vec(&problem).unwrap_or_default())
}

/// A JSON answer that no cache keeps: it belongs to one user.
fn answer(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (headers, bytes).into_response()
        }
        Err(_) => Problem::new(Code::Internal).into_response(),
    }
}

/// The same, with a warning where the tenant keeps nearly as much as it may.
fn answer_and_warn(value: &impl serde::Serialize, storage: Storage) -> Response {
    let mut response = answer(value);
    if let Some(warning) = storage.warning() {
        response.headers_mut().insert(STORAGE_WARNING, warning);
    }
    response
}
