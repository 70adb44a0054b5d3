//! Requests to the agent API as the tenant, each with a new token that is signed with the tenant's key.

use super::token::{TokenArgs, project_claims, project_token};
use crate::{
    clock::Clock,
    domain::class::ErrorClass,
    kubectl_tenant::{
        cluster::Cluster,
        error::{PluginError, innermost},
        observe::{observe_existing, observe_keyring},
    },
};
use kube::ResourceExt;
use serde::Deserialize;
use std::{path::PathBuf, time::Duration};

/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The address of the agent API.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AgentApiArgs {
    /// URL of the agent API
    #[arg(long, value_name = "URL", env = "KUBECTL_TENANT_SERVER")]
    pub(crate) server: String,
    /// File with CA certificates (PEM) to trust in addition to the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) server_certificate_authority: Option<PathBuf>,
}

/// A client of the agent API that acts as one tenant.
pub(crate) struct AgentApiClient<'a> {
    cluster: &'a Cluster,
    name: String,
    base: String,
    tenant_id: String,
    incarnation: Option<String>,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Problem {
    title: String,
    code: String,
    #[serde(default)]
    detail: Option<String>,
}

impl<'a> AgentApiClient<'a> {
    /// A client for the Tenant of that name.
    ///
    /// # Errors
    /// When the Tenant can't be read, or the server's address or certificates are invalid.
    pub(crate) async fn new(cluster: &'a Cluster, name: &str, server: &AgentApiArgs) -> Result<Self, PluginError> {
        let tenant = observe_existing(cluster, name).await?;
        let invalid = |text: String| PluginError::new(ErrorClass::Invalid, text);
        let base = server.server.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(invalid(format!("--server '{base}' is not an http or https URL")));
        }
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT);
        if let Some(file) = &server.server_certificate_authority {
            let bad = |why: String| invalid(format!("--server-certificate-authority {}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|e| bad(e.to_string()))?;
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(innermost(&e)))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(|e| PluginError::new(ErrorClass::Bug, innermost(&e)))?;
        let status = tenant.status.as_ref();
        let tenant_id = status.and_then(|s| s.tenant_id.clone()).unwrap_or_else(|| tenant.name_any());
        let incarnation = status.and_then(|s| s.database.as_ref()).map(|database| database.incarnation.clone());
        Ok(Self { cluster, name: name.to_owned(), base: base.to_owned(), tenant_id, incarnation, http })
    }

    /// The tenant's id.
    pub(crate) fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// Identity of the tenant's data; `None` while it has none.
    pub(crate) fn incarnation(&self) -> Option<&str> {
        self.incarnation.as_deref()
    }

    /// Sends a request to a path below the tenant's, with a token for this scope. Returns the body.
    ///
    /// # Errors
    /// When the agent API refuses the request or can't be reached.
    pub(crate) async fn call(
        &self,
        method: reqwest::Method,
        path: &[&str],
        query: &[(&str, &str)],
        scope: &str,
    ) -> Result<String, PluginError> {
        let what = format!("{method} {} of tenant {}", path.join("/"), self.tenant_id);
        let mut url = reqwest::Url::parse(&self.base)
            .map_err(|e| PluginError::new(ErrorClass::Invalid, format!("--server '{}': {e}", self.base)))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1", "tenants", &self.tenant_id]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let token = self.token(scope).await?;
        let sent = self.http.request(method, url).bearer_auth(token).send().await;
        let unreachable = |e: reqwest::Error| {
            PluginError::new(ErrorClass::Transient, format!("can't {what}: {} ({})", innermost(&e), self.base))
        };
        let answer = sent.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(body);
        }
        let class = match status.as_u16() {
            401 | 403 => ErrorClass::Denied,
            429 | 500..=599 => ErrorClass::Transient,
            _ => ErrorClass::Invalid,
        };
        let why = match serde_json::from_str::<Problem>(&body) {
            Ok(Problem { title, code, detail }) => {
                format!("{title} ({status}, {code}){}", detail.map(|d| format!(": {d}")).unwrap_or_default())
            }
            Err(_) => format!("{status}, and the response is not from the agent API; check --server"),
        };
        Err(PluginError::new(class, format!("can't {what}: {why}")))
    }

    /// Reads the keys for every request, because they may rotate during a long export.
    async fn token(&self, scope: &str) -> Result<String, PluginError> {
        let tenant = observe_existing(self.cluster, &self.name).await?;
        let args = TokenArgs { sub: "kubectl".to_owned(), seconds: 120, scope: Some(scope.to_owned()) };
        let claims = project_claims(&tenant, &args, Clock::system().now())?;
        let keyring = observe_keyring(&self.cluster.client, &tenant).await?;
        project_token(&keyring, &claims)
    }
}
