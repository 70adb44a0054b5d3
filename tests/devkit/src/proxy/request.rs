//! A program's request to the API server, parsed from the request line.

use http::{Method, Uri};

/// One request of a program to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The resource in the path, such as `secrets`.
    pub resource: String,
    /// Name of the object, if one is named.
    pub name: Option<String>,
    /// Such as `status`.
    pub subresource: Option<String>,
    /// Path of the object or the list, without a subresource.
    pub path: String,
}

impl ApiRequest {
    /// Parses method and path.
    pub(super) fn of(method: &Method, uri: &Uri) -> ApiRequest {
        let segments: Vec<&str> = uri.path().split('/').filter(|s| !s.is_empty()).collect();
        // `/api/VERSION/…` and `/apis/GROUP/VERSION/…`, then perhaps `namespaces/NAME/`.
        let group = if segments.first() == Some(&"apis") { 3 } else { 2 };
        let scoped = segments.get(group) == Some(&"namespaces") && segments.len() > group + 2;
        let at = if scoped { group + 2 } else { group };
        let part = |n: usize| segments.get(at + n).map(|s| (*s).to_owned());
        let name = part(1);
        let watches = uri.query().is_some_and(|q| q.split('&').any(|p| p == "watch=true" || p == "watch=1"));
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if watches => "watch",
            _ if name.is_some() => "get",
            _ => "list",
        };
        let end = (at + 2).min(segments.len());
        let path = format!("/{}", segments.get(..end).unwrap_or_default().join("/"));
        ApiRequest { verb, resource: part(0).unwrap_or_default(), name, subresource: part(2), path }
    }

    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_parsed_from_their_path() {
        let of = |method, uri: &str| ApiRequest::of(&method, &uri.parse::<Uri>().expect("a path"));
        let status = of(Method::PATCH, "/apis/agent-tenancy.dev/v1alpha1/namespaces/a/tenants/b/status?x=1");
        assert_eq!((status.verb, status.resource.as_str(), status.name.as_deref()), ("patch", "tenants", Some("b")));
        assert_eq!(status.subresource.as_deref(), Some("status"));
        assert_eq!(status.path, "/apis/agent-tenancy.dev/v1alpha1/namespaces/a/tenants/b");
        let watch = of(Method::GET, "/api/v1/namespaces/a/secrets?watch=true&resourceVersion=1");
        assert_eq!((watch.verb, watch.resource.as_str(), watch.name), ("watch", "secrets", None));
        let namespace = of(Method::GET, "/api/v1/namespaces/kube-system");
        assert_eq!((namespace.verb, namespace.resource.as_str()), ("get", "namespaces"));
    }
}
