//! The health server of a process, on a port of its own: /livez, /readyz, /metrics, and whatever the process adds.

use super::metrics::{CONTENT_TYPE, Metrics};
use axum::{Router, http::StatusCode, http::header, response::IntoResponse, routing::get};
use std::{future::Future, sync::Arc};
use tokio::net::TcpListener;

/// Whether a process wants requests, and if not, why not.
pub type Readiness = Result<(), String>;

/// What the health server shows.
#[derive(Clone)]
pub struct Health {
    metrics: Metrics,
    ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Runs before the metrics are shown, for gauges that are read rather than counted.
    collect: Arc<dyn Fn() + Send + Sync>,
}

impl Health {
    /// Shows these metrics, and asks `ready` on each call of /readyz.
    pub fn new(metrics: Metrics, ready: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self { metrics, ready: Arc::new(ready), collect: Arc::new(|| {}) }
    }

    /// Runs `collect` before the metrics are shown.
    #[must_use]
    pub fn with_collector(mut self, collect: impl Fn() + Send + Sync + 'static) -> Self {
        self.collect = Arc::new(collect);
        self
    }

    /// The routes; a process merges its own to them.
    pub fn router(&self) -> Router {
        let Self { metrics, ready, collect } = self.clone();
        Router::new()
            // Answering at all is the proof: the runtime still runs tasks.
            .route("/livez", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move || async move {
                    match ready() {
                        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
                    }
                }),
            )
            .route(
                "/metrics",
                get(move || async move {
                    collect();
                    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()).into_response()
                }),
            )
    }
}

/// Serves until `stop` is done.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    #[tokio::test]
    async fn readiness_says_why_not() {
        let health = Health::new(Metrics::new("sample"), || Err("the registry is not applied yet".to_owned()));
        let ask = |path: &str| health.router().oneshot(Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(ask("/livez").await.unwrap().status(), 200);
        assert_eq!(ask("/metrics").await.unwrap().status(), 200);
        let answer = ask("/readyz").await.unwrap();
        assert_eq!(answer.status(), 503);
        let body = axum::body::to_bytes(answer.into_body(), 1024).await.unwrap();
        assert_eq!(body, "the registry is not applied yet\n");
    }
}
