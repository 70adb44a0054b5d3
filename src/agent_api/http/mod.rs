//! The API's routes, and what every request gets: an id, a count, and errors in one form.
//!
//! | file | holds |
//! | --- | --- |
//! | `chat`, `history`, `settings`, `export`, `users` | the handlers, one file for each resource |
//! | `cursor` | the cursors of `history` |
//! | `persist` | storing an outcome until it is stored |
//! | `request` | the extractors of bodies and queries |
//! | `routes` | the only way to register a tenant's route |

mod chat;
mod cursor;
mod export;
mod history;
mod persist;
mod request;
pub mod routes;
mod settings;
mod users;

use super::{
    Context,
    auth::Authenticated,
    problem::{Body as ProblemBody, Code, Problem},
    request_id::{REQUEST_ID, RequestId},
    shares::Share,
    storage::{STORAGE_WARNING, Storage},
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use routes::TenantRoutes;
use std::sync::Arc;

/// All routes of the API. Each path is relative to the tenant's.
pub fn router(context: Arc<Context>) -> Router {
    TenantRoutes::new()
        .get("/chat", history::read)
        .post("/chat", chat::send)
        .get("/settings", settings::read)
        .put("/settings", settings::change)
        .get("/export", export::read)
        .delete("/users/{sub}", users::erase)
        .into_router()
        // Who isn't authenticated learns nothing, not even which paths there are.
        .fallback(|_: Authenticated| async { Problem::new(Code::NotFound) })
        .method_not_allowed_fallback(|_: Authenticated| async { Problem::new(Code::MethodNotAllowed) })
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
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
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
        Ok(bytes) => private("application/json", Bytes::from(bytes)),
        Err(_) => Problem::new(Code::Internal).into_response(),
    }
}

/// An answer that no cache keeps.
fn private(media: &'static str, body: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

/// A page: its memory stays reserved until the client has read it. There may be more of it than was expected, by one row.
fn page(media: &'static str, body: Vec<u8>, mut share: Share) -> Result<Response, Problem> {
    let length = body.len();
    if length > share.amount() {
        share.grow(length - share.amount())?;
    } else {
        share.shrink_to(length);
    }
    Ok(private(media, Bytes::from_owner(HeldBytes { body, _share: share })))
}

/// Bytes with the reservation of their memory.
struct HeldBytes {
    body: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.body
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
