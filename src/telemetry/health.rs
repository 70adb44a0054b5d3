//! The health server of a process, on a separate port: /livez, /readyz, /metrics, and the routes that the process adds.

use super::{
    metrics::{CONTENT_TYPE, Metrics},
    server::{self, ConnectionLimits},
};
use axum::{Router, http::StatusCode, http::header, response::IntoResponse, routing::get};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Whether a process accepts requests, and if not, why.
pub type Readiness = Result<(), String>;

/// Metrics and readiness of a process.
#[derive(Clone)]
pub struct Health {
    metrics: Metrics,
    ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Runs before the metrics are rendered, for gauges that are read rather than counted.
    collect: Arc<dyn Fn() + Send + Sync>,
}

impl Health {
    /// `ready` is called for each request to /readyz.
    pub fn new(metrics: Metrics, ready: impl Fn() -> Readiness + Send + Sync + 'static) -> Self {
        Self { metrics, ready: Arc::new(ready), collect: Arc::new(|| {}) }
    }

    /// Runs `collect` before the metrics are rendered.
    #[must_use]
    pub fn with_collector(mut self, collect: impl Fn() + Send + Sync + 'static) -> Self {
        self.collect = Arc::new(collect);
        self
    }

    /// The routes; a process merges its own routes into them.
    pub fn router(&self) -> Router {
        let Self { metrics, ready, collect } = self.clone();
        Router::new()
            // Any answer proves that the runtime still runs tasks.
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

/// Few clients ask, and they ask briefly.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 64,
    head: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(10),
};

/// Serves until `stop` is done.
///
/// # Errors
/// None at present.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    server::serve(listener, routes, LIMITS, stop).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    #[tokio::test]
    async fn readiness_reports_the_reason() {
        let health = Health::new(Metrics::new("sample"), || Err("the registry is not applied yet".to_owned()));
        let get = |path: &str| health.router().oneshot(Request::get(path).body(Body::empty()).unwrap());
        assert_eq!(get("/livez").await.unwrap().status(), 200);
        assert_eq!(get("/metrics").await.unwrap().status(), 200);
        let answer = get("/readyz").await.unwrap();
        assert_eq!(answer.status(), 503);
        let body = axum::body::to_bytes(answer.into_body(), 1024).await.unwrap();
        assert_eq!(body, "the registry is not applied yet\n");
    }
}
