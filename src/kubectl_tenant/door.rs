//! The way to the operator's door for plans and takeovers, and the token that opens it.

use super::{cluster::Cluster, error::PluginError};
use crate::{
    domain::class::ErrorClass,
    plan::{
        dry_run::{AUDIENCE, DryRun, Refusal, TOKEN_HEADER},
        takeover_request::{TakeoverAnswer, TakeoverRequest},
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

/// The plugin's own token lives as short as the API server allows, in seconds.
const TOKEN_SECONDS: i64 = 600;
/// How often somebody who is to come back later, or who met an operator that stands by, tries again.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// Why it may be that nobody is there.
const CLOSED: &str = "its door is closed unless the chart is installed with plan.enabled=true";
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the door is and what opens it.
#[derive(Clone, Debug, clap::Args)]
pub struct DoorArgs {
    /// ServiceAccount in whose name the operator is asked; it needs the right to do what is asked for, and you the right to
    /// create its tokens. Without a namespace: where the Tenants are
    #[arg(long, value_name = "[NAMESPACE/]NAME", env = "AGENT_TENANCY_PLAN_ACCOUNT")]
    pub as_service_account: Option<String>,
    /// File with a token to use instead, made for the audience 'agent-tenancy.dev/plan'
    #[arg(long, value_name = "FILE", conflicts_with = "as_service_account")]
    pub token_file: Option<PathBuf>,
    /// The operator's Service for its door, which is reached through the API server
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "agent-tenancy/agent-tenancy-operator-plan")]
    pub service: String,
    /// URL of the operator's door instead, e.g. of a port forwarded to it
    #[arg(long, value_name = "URL", conflicts_with = "service", env = "AGENT_TENANCY_PLAN_SERVER")]
    pub server: Option<String>,
}

/// The way, and the token.
pub struct Door {
    way: Way,
    token: String,
}

enum Way {
    /// Through the API server, with the user's own credentials; the token goes along in a header of its own.
    Service { client: Client, path: String, name: String },
    /// Straight there.
    Url { client: reqwest::Client, url: String },
}

fn invalid(why: impl Into<String>) -> PluginError {
    PluginError::new(ErrorClass::Invalid, why)
}

impl Door {
    /// Finds the way and gets the token.
    ///
    /// # Errors
    /// When there is no way or no token.
    pub async fn open(cluster: &Cluster, args: &DoorArgs) -> Result<Self, PluginError> {
        let way = match &args.server {
            Some(url) => Way::Url { client: client()?, url: url.trim_end_matches('/').to_owned() },
            None => {
                let whole = args.service.split_once('/').filter(|(space, name)| is_name(space) && is_name(name));
                let (namespace, name) =
                    whole.ok_or_else(|| invalid(format!("--service '{}' is not NAMESPACE/NAME", args.service)))?;
                let path = format!("/api/v1/namespaces/{namespace}/services/http:{name}:plan/proxy");
                Way::Service { client: cluster.client.clone(), path, name: args.service.clone() }
            }
        };
        let token = match (&args.token_file, &args.as_service_account) {
            (Some(file), _) => {
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|e| invalid(format!("'{}' can't be read: {e}", file.display())))?;
                if let Way::Url { url, .. } = &way {
                    check_secrecy(url)?;
                }
                text.trim().to_owned()
            }
            (None, Some(account)) => request_token(cluster, account).await?,
            (None, None) => {
                return Err(invalid(
                    "the operator is asked with a token that is made for its door and for nothing else: give \
                     --as-service-account NAME, of a ServiceAccount that may do what is asked for, or --token-file FILE",
                ));
            }
        };
        Ok(Self { way, token })
    }

    /// Asks for one plan.
    ///
    /// # Errors
    /// When the operator can't be asked or refuses.
    pub async fn observe_plan(&self, path: &str, tenant: Option<&Value>) -> Result<DryRun, PluginError> {
        self.request("plan", path, tenant.map(Value::to_string)).await
    }

    /// Lets a Tenant take over a lost cluster's data; again is the same.
    ///
    /// # Errors
    /// When the operator can't be asked or refuses.
    pub async fn perform_allow_takeover(&self, request: &TakeoverRequest) -> Result<TakeoverAnswer, PluginError> {
        let unwritable = |e| PluginError::new(ErrorClass::Bug, format!("the request can't be written: {e}"));
        let body = serde_json::to_string(request).map_err(unwritable)?;
        self.request("takeover", "/v1/takeover", Some(body)).await
    }

    /// Asks until there is an answer for this caller.
    async fn request<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, PluginError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let asking = tokio::time::timeout(PATIENCE, self.ask(path, body.clone()));
            let late = |_| PluginError::new(ErrorClass::Transient, "the operator does not answer");
            let (status, text) = asking.await.map_err(late)??;
            if status == 200 {
                return serde_json::from_str(&text).map_err(|e| {
                    invalid(format!("the answer is not of the form that this version of the plugin reads ({e})"))
                });
            }
            let refusal = serde_json::from_str::<Refusal>(&text).ok();
            // The API server picks one of the operators each time; only one of them leads.
            let another =
                matches!(self.way, Way::Service { .. }) && refusal.as_ref().is_some_and(|r| r.leader.is_some());
            if attempt < ATTEMPTS && (status == 429 || (status == 503 && another)) {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return Err(self.resolve_refusal(what, status, refusal, &text));
        }
    }

    async fn ask(&self, path: &str, body: Option<String>) -> Result<(u16, String), PluginError> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        match &self.way {
            Way::Service { client, path: proxy, .. } => {
                let request = Request::builder()
                    .method(method)
                    .uri(format!("{proxy}{path}"))
                    .header(TOKEN_HEADER, &self.token)
                    .header("content-type", "application/json")
                    .body(Body::from(body.unwrap_or_default().into_bytes()))
                    .map_err(|_| invalid("the token holds characters that no token has"))?;
                let what = "ask the operator through the API server";
                let failed = |e: kube::Error| PluginError::of_kube(&e, what);
                let response = client.send(request).await.map_err(failed)?;
                let status = response.status().as_u16();
                let bytes = response.into_body().collect_bytes().await.map_err(failed)?;
                Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
            }
            Way::Url { client, url } => {
                let request = client.request(method, format!("{url}{path}")).bearer_auth(&self.token);
                let request = request.header("content-type", "application/json").body(body.unwrap_or_default());
                let failed = |e: reqwest::Error| {
                    let text = super::error::innermost(&e);
                    PluginError::new(
                        ErrorClass::Transient,
                        format!("the operator can't be reached at {url}: {text} ({CLOSED})"),
                    )
                };
                let response = request.send().await.map_err(failed)?;
                let status = response.status().as_u16();
                Ok((status, response.text().await.map_err(failed)?))
            }
        }
    }

    /// What an answer other than the one asked for means.
    fn resolve_refusal(&self, what: &str, status: u16, refusal: Option<Refusal>, text: &str) -> PluginError {
        let class = match status {
            401 | 403 => ErrorClass::Denied,
            404 | 413 | 422 | 400 => ErrorClass::Invalid,
            409 => ErrorClass::Conflict,
            429 | 502..=504 => ErrorClass::Transient,
            _ => ErrorClass::Bug,
        };
        match (refusal, &self.way) {
            (Some(refusal), _) => PluginError::new(class, format!("no {what}: {}", refusal.error)),
            // The API server itself, which found no way or none for this user.
            (None, Way::Service { name, .. }) => {
                let message =
                    serde_json::from_str::<Value>(text).ok().and_then(|s| s["message"].as_str().map(str::to_owned));
                let message = message.unwrap_or_else(|| format!("status {status}"));
                let text = format!(
                    "the operator can't be reached through the API server as Service {name}: {message} ({CLOSED}; \
                     --service names another one, --server goes to a URL)"
                );
                PluginError::new(class, text)
            }
            (None, Way::Url { url, .. }) => PluginError::new(
                class,
                format!("what answers at {url} is not the operator's door (status {status}; {CLOSED})"),
            ),
        }
    }
}

fn client() -> Result<reqwest::Client, PluginError> {
    // A token goes nowhere but where it was sent.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    client.map_err(|e| PluginError::new(ErrorClass::Bug, format!("no HTTP client can be made: {e}")))
}

/// A name that may stand in a path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'))
}

/// A token of the user's own, which may open more than this door, is sent in the clear only within this machine.
fn check_secrecy(url: &str) -> Result<(), PluginError> {
    let host = reqwest::Url::parse(url).map_err(|e| invalid(format!("--server '{url}' is not a URL: {e}")))?;
    let here = host.host_str().is_some_and(|h| matches!(h, "localhost" | "[::1]") || h.starts_with("127."));
    if host.scheme() == "https" || here {
        return Ok(());
    }
    Err(invalid(format!(
        "--token-file is not sent to {url} in the clear: use https, a forwarded port, or --as-service-account"
    )))
}

/// A token of a ServiceAccount that is good for nothing but asking for plans.
async fn request_token(cluster: &Cluster, account: &str) -> Result<String, PluginError> {
    let (namespace, name) = match account.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => {
            let missing =
                || invalid(format!("--as-service-account {account}: say in which namespace, as NAMESPACE/NAME"));
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
    let made: Result<TokenRequest, _> = api.create_subresource("token", name, &PostParams::default(), &request).await;
    let what = format!("create a token of the ServiceAccount {namespace}/{name}");
    let token = made.map_err(|e| PluginError::of_kube(&e, &what))?.status.map(|status| status.token);
    token.ok_or_else(|| PluginError::new(ErrorClass::Bug, format!("can't {what}: none came")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_own_token_is_not_sent_in_the_clear() {
        for url in ["https://plans.example", "http://127.0.0.1:8082", "http://localhost:1", "http://[::1]:1"] {
            assert!(check_secrecy(url).is_ok(), "{url}");
        }
        for url in ["http://plans.example", "http://127.evil.example@10.0.0.1", "http://10.0.0.1:8082", "plans"] {
            assert!(check_secrecy(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_goes_into_a_path_is_a_name() {
        assert!(is_name("agent-tenancy.x1"));
        assert!(!is_name("") && !is_name("a/b") && !is_name("a?b") && !is_name("A"));
    }
}
