//! The client of the API server; it counts every request by verb and resource.

use crate::telemetry::metrics::Metrics;
use http::{Method, Request, Uri};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use prometheus_client::{encoding::EncodeLabelSet, metrics::counter::Counter, metrics::family::Family};
use std::time::Duration;
use tower::{Layer, Service};

/// Labels of a counted request, from two closed lists: Kubernetes verbs, and the resources that we use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiRequestLabels {
    verb: &'static str,
    resource: &'static str,
}

/// Creates the client. A connection without data for `idle_timeout` is closed: list requests of watches have no other
/// timeout.
///
/// # Errors
/// When the configuration can't be used (certificates, proxy).
pub fn connect(mut config: Config, idle_timeout: Duration, metrics: &Metrics) -> Result<Client, kube::Error> {
    config.read_timeout = Some(idle_timeout);
    // Otherwise the idle time of a pooled connection would count.
    config.reset_reader_on_write = true;
    let requests = metrics.counters("api_requests", "Requests to the API server, by verb and resource");
    Ok(ClientBuilder::try_from(config)?.with_layer(&CountLayer { requests }).build())
}

#[derive(Clone)]
struct CountLayer {
    requests: Family<ApiRequestLabels, Counter>,
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;
    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, requests: self.requests.clone() }
    }
}

/// Counts a request and forwards it.
#[derive(Clone)]
struct Count<S> {
    inner: S,
    requests: Family<ApiRequestLabels, Counter>,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Count<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.requests.get_or_create(&labels(request.method(), request.uri())).inc();
        self.inner.call(request)
    }
}

/// Resources as they are written in paths; anything else is `other`.
const RESOURCES: [&str; 14] = [
    "tenants",
    "agentconfigs",
    "databaseinstances",
    "secrets",
    "configmaps",
    "leases",
    "pods",
    "deployments",
    "controllerrevisions",
    "events",
    "namespaces",
    "customresourcedefinitions",
    "tokenreviews",
    "subjectaccessreviews",
];

fn labels(method: &Method, uri: &Uri) -> ApiRequestLabels {
    let mut segments = uri.path().split('/').filter(|s| !s.is_empty()).peekable();
    let (mut resource, mut named) = ("other", false);
    while let Some(segment) = segments.next() {
        // `namespaces/NAME/…` is the scope of a resource unless nothing follows.
        if let Some(found) = RESOURCES.iter().find(|r| **r == segment) {
            named = segments.next().is_some();
            if *found == "namespaces" && segments.peek().is_some() {
                continue;
            }
            resource = found;
            break;
        }
    }
    let watch = uri.query().is_some_and(|q| q.contains("watch=true") || q.contains("watch=1"));
    let verb = match (method, named) {
        (&Method::GET, _) if watch => "watch",
        (&Method::GET, true) => "get",
        (&Method::GET, false) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, _) => "delete",
        _ => "other",
    };
    ApiRequestLabels { verb, resource }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_by_verb_and_resource() {
        let named = |method, path: &str| {
            let l = labels(&method, &path.parse().unwrap());
            format!("{} {}", l.verb, l.resource)
        };
        assert_eq!(named(Method::GET, "/api/v1/namespaces/kube-system"), "get namespaces");
        assert_eq!(named(Method::GET, "/api/v1/namespaces/a/secrets?labelSelector=x&watch=true"), "watch secrets");
        assert_eq!(
            named(Method::PATCH, "/apis/agent-tenancy.dev/v1alpha1/namespaces/a/tenants/b/status"),
            "patch tenants"
        );
        assert_eq!(
            named(Method::PATCH, "/apis/agent-tenancy.dev/v1alpha1/namespaces/a/databaseinstances/main/status"),
            "patch databaseinstances"
        );
        assert_eq!(named(Method::POST, "/api/v1/namespaces/a/bindings"), "create other");
        assert_eq!(named(Method::POST, "/apis/events.k8s.io/v1/namespaces/a/events"), "create events");
        assert_eq!(named(Method::GET, "/apis/agent-tenancy.dev/v1alpha1/tenants?limit=500"), "list tenants");
    }
}
