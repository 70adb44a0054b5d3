//! Requests to the operator's admin API: plans and takeovers. They go through the API server to the operator's Service, or
//! to a URL.

use crate::{
    domain::{
        admin_api::{AUDIENCE, DryRun, RefusedRequest, TOKEN_HEADER, TakeoverAnswer, TakeoverRequest},
        class::ErrorClass,
    },
    kubectl_tenant::{
        cluster::Cluster,
        error::{PluginError, innermost},
    },
};
use http::{Method, Request};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{Api, Client, api::PostParams, client::Body};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

/// Lifetime of the token that the plugin requests: the shortest that the API server allows, in seconds.
const TOKEN_SECONDS: i64 = 600;
/// Attempts while the operator is busy or the request reaches an operator that does not lead.
const ATTEMPTS: u32 = 20;
/// Wait between two attempts.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// The usual reason why the admin API can't be reached.
const DISABLED: &str = "the admin API is disabled unless the chart is installed with adminApi.enabled=true";
/// Longest wait for one response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Address of the admin API, and the token for it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdminApiArgs {
    /// ServiceAccount to call the operator as; it needs permission for what is requested, and you need permission to create
    /// tokens for it. Default namespace: that of the Tenants
    #[arg(long, value_name = "[NAMESPACE/]NAME", env = "AGENT_TENANCY_PLAN_ACCOUNT")]
    pub(crate) as_service_account: Option<String>,
    /// File with a token to use instead; its audience must be 'agent-tenancy.dev/plan'
    #[arg(long, value_name = "FILE", conflicts_with = "as_service_account")]
    pub(crate) token_file: Option<PathBuf>,
    /// The Service of the operator's admin API, which is reached through the API server
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "agent-tenancy/agent-tenancy-operator-admin-api")]
    pub(crate) service: String,
    /// URL of the admin API instead, e.g. of a forwarded port
    #[arg(long, value_name = "URL", conflicts_with = "service", env = "AGENT_TENANCY_PLAN_SERVER")]
    pub(crate) server: Option<String>,
}

/// A client of the admin API.
pub(crate) struct AdminApiClient {
    route: Route,
    token: String,
}

enum Route {
    /// Through the API server, with the user's credentials; the token is in a separate header.
    Service { client: Client, path: String, name: String },
    /// A direct connection.
    Url { client: reqwest::Client, url: String },
}

struct Response {
    status: u16,
    body: String,
}

fn invalid(why: impl Into<String>) -> PluginError {
    PluginError::new(ErrorClass::Invalid, why)
}

impl AdminApiClient {
    /// Resolves the address and gets the token.
    ///
    /// # Errors
    /// When the address is invalid or there is no token.
    pub(crate) async fn open(cluster: &Cluster, args: &AdminApiArgs) -> Result<Self, PluginError> {
        let route = match &args.server {
            Some(url) => Route::Url { client: client()?, url: url.trim_end_matches('/').to_owned() },
            None => {
                let whole = args.service.split_once('/').filter(|(space, name)| is_name(space) && is_name(name));
                let (namespace, name) =
                    whole.ok_or_else(|| invalid(format!("--service '{}' is not NAMESPACE/NAME", args.service)))?;
                let path = format!("/api/v1/namespaces/{namespace}/services/http:{name}:admin-api/proxy");
                Route::Service { client: cluster.client.clone(), path, name: args.service.clone() }
            }
        };
        let token = match (&args.token_file, &args.as_service_account) {
            (Some(file), _) => {
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|e| invalid(format!("'{}' can't be read: {e}", file.display())))?;
                if let Route::Url { url, .. } = &route {
                    check_encryption(url)?;
                }
                text.trim().to_owned()
            }
            (None, Some(account)) => request_token(cluster, account).await?,
            (None, None) => {
                return Err(invalid(
                    "the admin API needs a token for its own audience: give --as-service-account NAME of a ServiceAccount \
                     that has permission for the request, or --token-file FILE",
                ));
            }
        };
        Ok(Self { route, token })
    }

    /// Requests one plan.
    ///
    /// # Errors
    /// When the operator can't be reached or refuses.
    pub(crate) async fn observe_plan(&self, path: &str, tenant: Option<&Value>) -> Result<DryRun, PluginError> {
        self.request("plan", path, tenant.map(Value::to_string)).await
    }

    /// Allows a Tenant to take over the data of a lost cluster. Idempotent.
    ///
    /// # Errors
    /// When the operator can't be reached or refuses.
    pub(crate) async fn perform_allow_takeover(
        &self,
        request: &TakeoverRequest,
    ) -> Result<TakeoverAnswer, PluginError> {
        let unwritable = |e| PluginError::new(ErrorClass::Bug, format!("the request can't be written: {e}"));
        let body = serde_json::to_string(request).map_err(unwritable)?;
        self.request("takeover", "/v1/takeover", Some(body)).await
    }

    /// Sends a request until the leading operator has answered it.
    async fn request<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, PluginError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = tokio::time::timeout(TIMEOUT, self.send(path, body.clone()));
            let late = |_| PluginError::new(ErrorClass::Transient, "the operator did not answer in time");
            let Response { status, body: text } = response.await.map_err(late)??;
            if status == 200 {
                return serde_json::from_str(&text)
                    .map_err(|e| invalid(format!("this version of the plugin can't read the answer ({e})")));
            }
            let refusal = serde_json::from_str::<RefusedRequest>(&text).ok();
            // The API server picks one of the operators for each request; only one of them leads.
            let standby =
                matches!(self.route, Route::Service { .. }) && refusal.as_ref().is_some_and(|r| r.leader.is_some());
            if attempt < ATTEMPTS && (status == 429 || (status == 503 && standby)) {
                tokio::time::sleep(RETRY_WAIT).await;
                continue;
            }
            return Err(self.resolve_refusal(what, status, refusal, &text));
        }
    }

    async fn send(&self, path: &str, body: Option<String>) -> Result<Response, PluginError> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        match &self.route {
            Route::Service { client, path: proxy, .. } => {
                let request = Request::builder()
                    .method(method)
                    .uri(format!("{proxy}{path}"))
                    .header(TOKEN_HEADER, &self.token)
                    .header("content-type", "application/json")
                    .body(Body::from(body.unwrap_or_default().into_bytes()))
                    .map_err(|_| invalid("the token has characters that are not allowed in a header"))?;
                let what = "reach the operator through the API server";
                let failed = |e: kube::Error| PluginError::of_kube(&e, what);
                let response = client.send(request).await.map_err(failed)?;
                let status = response.status().as_u16();
                let bytes = response.into_body().collect_bytes().await.map_err(failed)?;
                Ok(Response { status, body: String::from_utf8_lossy(&bytes).into_owned() })
            }
            Route::Url { client, url } => {
                let request = client.request(method, format!("{url}{path}")).bearer_auth(&self.token);
                let request = request.header("content-type", "application/json").body(body.unwrap_or_default());
                let failed = |e: reqwest::Error| {
                    let text = innermost(&e);
                    PluginError::new(
                        ErrorClass::Transient,
                        format!("the operator can't be reached at {url}: {text} ({DISABLED})"),
                    )
                };
                let response = request.send().await.map_err(failed)?;
                let status = response.status().as_u16();
                Ok(Response { status, body: response.text().await.map_err(failed)? })
            }
        }
    }

    /// The error for a response other than 200.
    fn resolve_refusal(&self, what: &str, status: u16, refusal: Option<RefusedRequest>, text: &str) -> PluginError {
        let class = match status {
            401 | 403 => ErrorClass::Denied,
            404 | 413 | 422 | 400 => ErrorClass::Invalid,
            409 => ErrorClass::Conflict,
            429 | 502..=504 => ErrorClass::Transient,
            _ => ErrorClass::Bug,
        };
        match (refusal, &self.route) {
            (Some(refusal), _) => PluginError::new(class, format!("no {what}: {}", refusal.error)),
            // The API server itself refused or found no endpoint.
            (None, Route::Service { name, .. }) => {
                let message =
                    serde_json::from_str::<Value>(text).ok().and_then(|s| s["message"].as_str().map(str::to_owned));
                let message = message.unwrap_or_else(|| format!("status {status}"));
                let text = format!(
                    "can't reach the operator through the API server as Service {name}: {message} ({DISABLED}; --service names \
                     another Service, --server a URL)"
                );
                PluginError::new(class, text)
            }
            (None, Route::Url { url, .. }) => PluginError::new(
                class,
                format!("the response from {url} is not from the operator's admin API (status {status}; {DISABLED})"),
            ),
        }
    }
}

fn client() -> Result<reqwest::Client, PluginError> {
    // A redirect must not carry the token to another server.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    client.map_err(|e| PluginError::new(ErrorClass::Bug, format!("can't create an HTTP client: {e}")))
}

/// Whether a text is a name that is safe in a path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'))
}

/// A token from a file may be valid elsewhere too: it is sent without TLS only within this machine.
fn check_encryption(url: &str) -> Result<(), PluginError> {
    let host = reqwest::Url::parse(url).map_err(|e| invalid(format!("--server '{url}' is not a URL: {e}")))?;
    let here = host.host_str().is_some_and(|h| matches!(h, "localhost" | "[::1]") || h.starts_with("127."));
    if host.scheme() == "https" || here {
        return Ok(());
    }
    Err(invalid(format!(
        "--token-file is not sent to {url} without TLS: use https, a forwarded port, or --as-service-account"
    )))
}

/// Requests a ServiceAccount's token that only the admin API accepts.
async fn request_token(cluster: &Cluster, account: &str) -> Result<String, PluginError> {
    let (namespace, name) = match account.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => {
            let missing =
                || invalid(format!("--as-service-account {account}: give the namespace too, as NAMESPACE/NAME"));
            (cluster.namespace.as_deref().ok_or_else(missing)?, account)
        }
    };
    if !is_name(namespace) || !is_name(name) {
        return Err(invalid(format!("--as-service-account '{account}' is not [NAMESPACE/]NAME")));
    }
    let spec = TokenRequestSpec {
        audiences: vec![AUDIENCE.to_owned()],
        expiration_seconds: Some(TOKEN_SECONDS),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let api: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let created: Result<TokenRequest, _> =
        api.create_subresource("token", name, &PostParams::default(), &request).await;
    let what = format!("create a token of the ServiceAccount {namespace}/{name}");
    let token = created.map_err(|e| PluginError::of_kube(&e, &what))?.status.map(|status| status.token);
    token.ok_or_else(|| PluginError::new(ErrorClass::Bug, format!("can't {what}: the response has no token")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_from_a_file_is_not_sent_without_tls() {
        for url in ["https://plans.example", "http://127.0.0.1:8082", "http://localhost:1", "http://[::1]:1"] {
            assert!(check_encryption(url).is_ok(), "{url}");
        }
        for url in ["http://plans.example", "http://127.evil.example@10.0.0.1", "http://10.0.0.1:8082", "plans"] {
            assert!(check_encryption(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_names_are_put_into_a_path() {
        assert!(is_name("agent-tenancy.x1"));
        assert!(!is_name("") && !is_name("a/b") && !is_name("a?b") && !is_name("A"));
    }
}
