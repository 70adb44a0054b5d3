//! The documents of the operator's admin API, which the operator and the plugin share: plans and takeovers.

use super::ident::Incarnation;
use crate::api::Condition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Audience of the tokens that the admin API accepts; nothing else accepts them.
pub const AUDIENCE: &str = "agent-tenancy.dev/plan";

/// Carries the token when the API server proxies the request: it removes the `Authorization` header.
pub const TOKEN_HEADER: &str = "x-agent-tenancy-token";

/// The RBAC verb on Tenants that is required to allow a takeover: in the Tenant's namespace, and in all namespaces for data
/// that is kept of another one. The API server itself does not use it.
pub const TAKEOVER_VERB: &str = "takeover";

/// What one reconcile of a Tenant would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Namespace of the Tenant.
    pub namespace: String,
    /// Name of the Tenant.
    pub name: String,
    /// The assumed change of the Tenant.
    pub event: Event,
    /// The steps, in order.
    pub steps: Vec<DryRunStep>,
    /// What the operator would wait for after the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Why a step can't be prepared; the steps after it are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The conditions of the Tenant after the steps.
    pub conditions: Vec<Condition>,
}

/// The assumed change of a Tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The Tenant is created.
    Created,
    /// The Tenant is applied over the existing one.
    Updated,
    /// The Tenant is not changed.
    None,
    /// The Tenant is deleted.
    Deleted,
}

/// One step of a dry run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunStep {
    /// The step in one sentence.
    pub sentence: String,
    /// Requests to the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<DryRunRequest>,
    /// SQL that is sent to the database: one transaction per item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunRequest {
    /// The RBAC verb.
    pub verb: String,
    /// The RBAC resource.
    pub resource: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The body; secrets are redacted.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
}

/// The body of a response that refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRequest {
    /// The reason, in one sentence.
    pub error: String,
    /// The identity of the leader in the Lease, if this operator does not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// A request to allow a takeover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeoverRequest {
    /// Namespace of the Tenant.
    pub namespace: String,
    /// Name of the Tenant.
    pub name: String,
    /// Id of the cluster that the data is taken over from; none: kept data of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// The answer to an allowed takeover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakeoverAnswer {
    /// The tenant id.
    pub tenant_id: String,
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// Whether the takeover is done already.
    pub done: bool,
    /// Seconds without a heartbeat of the other cluster before the takeover starts.
    pub wait_seconds: u64,
}
