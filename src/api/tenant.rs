//! The `Tenant` resource: one customer of the shared agent API.
#![allow(clippy::duplicated_attributes, reason = "columns repeat their keys inside #[kube]")]

use super::{TenantStatus, crd};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One tenant of the shared agent API: a Postgres schema and role, a signing keyring, and an entry in the registry.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "agent-tenancy.dev",
    version = "v1alpha1",
    kind = "Tenant",
    namespaced,
    status = "TenantStatus",
    derive = "PartialEq",
    shortname = "atn",
    category = "agent-tenancy",
    doc = "A tenant of the shared agent API: a Postgres schema and role, a signing keyring, and an entry in the registry.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether every ready replica serves the tenant"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready or not"),
    printcolumn(name = "Tables", type_ = "integer", json_path = ".status.database.schemaVersion", description = "Version of the tenant's tables"),
    printcolumn(name = "Tenant-Id", type_ = "string", json_path = ".status.tenantId", description = "The id in URLs and tokens"),
    printcolumn(name = "Schema", type_ = "string", json_path = ".status.database.schema", description = "Schema in the database", priority = 1),
    printcolumn(name = "Kid", type_ = "string", json_path = ".status.keys.currentKid", description = "Id of the key that signs", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "What to know or do", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object exists"),
    selectable = ".spec.tenantId",
    selectable = ".spec.database.deletionPolicy",
    validation = kube::core::Rule::new("has(self.spec.tenantId) || self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$')").message("metadata.name must be a valid tenant id (at most 40 characters of 'a-z', '0-9' and '-', starting and ending with a letter or digit) when spec.tenantId is not set"),
    validation = crd::reserved_id_rule(),
    validation = kube::core::Rule::new("has(self.spec.tenantId) == has(oldSelf.spec.tenantId)").message("spec.tenantId must not be added or removed after creation"),
    validation = crd::instance_stays_rule(),
)]
#[x_kube(validation = kube::core::Rule::new("!has(self.defaultAgent) || self.agents.exists(a, a.name == self.defaultAgent)").message("defaultAgent must name one of agents"))]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// Id of the tenant in URLs, tokens and database names. Defaults to the object's name. No two Tenants of one
    /// registry may have the same. Immutable: it can't be changed, added or removed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("tenantId must not change"))]
    pub tenant_id: Option<String>,

    /// Name for people, shown by tools; has no other effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,

    /// Takes the tenant out of service until this is false again: requests are refused (403), and the agent API loses its
    /// access to the data. Data and keys are kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,

    /// The agents that this tenant may talk to.
    #[schemars(length(min = 1, max = 16), schema_with = "crd::agents_schema")]
    pub agents: Vec<TenantAgent>,

    /// The agent that answers when a request names none. Defaults to the first of `agents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub default_agent: Option<String>,

    /// What the tenant itself may change with `PUT …/settings`, within the bounds of the AgentConfig and this Tenant.
    /// Nothing by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::mutable_schema")]
    pub tenant_mutable: Vec<MutableSetting>,

    /// The tenant's part of the database.
    #[serde(default, skip_serializing_if = "is_default")]
    pub database: TenantDatabase,

    /// What the tenant's tokens have to look like.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auth: TenantAuth,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One agent of a tenant: an AgentConfig under a name of the tenant's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantAgent {
    /// Name that requests use.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// The AgentConfig in the Tenant's namespace.
    pub config_ref: AgentConfigRef,
    /// What differs from the AgentConfig for this tenant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overrides: AgentOverrides,
}

/// Reference to an AgentConfig of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfigRef {
    /// Name of the AgentConfig.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Parameters of an agent that a Tenant sets for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentOverrides {
    /// Sampling temperature as a decimal string from '0' to '2'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6), regex(pattern = r"^(0|1)(\.[0-9]{1,4})?$|^2(\.0{1,4})?$"))]
    pub temperature: Option<String>,
    /// Nucleus sampling as a decimal string from '0' to '1'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 6), regex(pattern = r"^0(\.[0-9]{1,4})?$|^1(\.0{1,4})?$"))]
    pub top_p: Option<String>,
    /// Most tokens of one answer; never more than the AgentConfig allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_tokens: Option<i32>,
    /// Text that follows the AgentConfig's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub instructions: Option<String>,
}

/// A setting that a tenant may be allowed to change itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum MutableSetting {
    /// Which of its agents answers when a request names none.
    DefaultAgent,
    /// Sampling temperature.
    Temperature,
    /// Nucleus sampling.
    TopP,
    /// Most tokens of one answer, up to what the Tenant and AgentConfig allow.
    MaxOutputTokens,
    /// Text that follows the system prompt.
    Instructions,
}

/// The tenant's part of the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantDatabase {
    /// Which of the databases in the operator's settings holds the tenant's data. Without it, the one with the fewest
    /// tenants of those that take new ones. Immutable: it can't be changed, added or removed later;
    /// `status.database.instance` tells where it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 30), regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$"))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("instance must not change"))]
    pub instance: Option<String>,
    /// What happens to the tenant's schema, role and data when the Tenant is deleted. `Retain` keeps them, out of the
    /// agent API's reach, and with them the tenant id; `Archive` does so under another name for as long as the operator's
    /// settings say, and frees the tenant id; `Delete` drops them for good.
    #[serde(default)]
    #[schemars(schema_with = "crd::deletion_policy_schema")]
    pub deletion_policy: DeletionPolicy,
    /// Take over the data that was kept when an earlier Tenant of this tenant id was deleted, instead of beginning with
    /// nothing. Means nothing any more once this Tenant has data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<TenantAdoption>,
    /// Most transactions of this tenant at once in one replica of the agent API.
    #[serde(default = "default_transactions")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_transactions: i32,
    /// Longest run of one SQL statement of this tenant, in seconds.
    #[serde(default = "default_statement_timeout")]
    #[schemars(range(min = 1, max = 300))]
    pub statement_timeout_seconds: i32,
    /// Most bytes of content that the tenant may keep, as a quantity in whole numbers from `1Mi` to `1Pi`: the text of its
    /// messages and the values of its settings. When they are reached, the agent API refuses what would add to them (507)
    /// until something is deleted; reading and deleting go on. No limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 18), regex(pattern = r"^[1-9][0-9]{0,15}([kMGTP]|[KMGTP]i)?$"))]
    #[x_kube(validation = kube::core::Rule::new("quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('1Pi')) <= 0").message("storageLimit must be from 1Mi to 1Pi"))]
    pub storage_limit: Option<String>,
}

const fn default_transactions() -> i32 {
    8
}

const fn default_statement_timeout() -> i32 {
    10
}

impl Default for TenantDatabase {
    fn default() -> Self {
        Self {
            instance: None,
            deletion_policy: DeletionPolicy::default(),
            adopt: None,
            max_concurrent_transactions: default_transactions(),
            statement_timeout_seconds: default_statement_timeout(),
            storage_limit: None,
        }
    }
}

/// Whose data to take over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantAdoption {
    /// `metadata.uid` of the deleted Tenant whose data was kept (`Retain`) or archived (`Archive`). Where there is no such
    /// data, nothing is made.
    #[schemars(length(min = 36, max = 36), regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub previous_uid: String,
}

/// What happens to a tenant's data when the Tenant is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Schema, role and data stay; the agent API may no longer use them.
    #[default]
    Retain,
    /// Schema, role and data stay under another name for a time, and are dropped then; the tenant id is free at once.
    Archive,
    /// Schema, role and data are dropped.
    Delete,
}

/// How a tenant's tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    #[default]
    HS256,
    /// Ed25519: the agent API holds public keys only.
    EdDSA,
    /// ECDSA with P-256 and SHA-256: the agent API holds public keys only.
    ES256,
}

impl SigningAlgorithm {
    /// The word in a token's header and in the signing Secret.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
        }
    }

    /// Whether those who verify hold the very key that signs.
    pub const fn is_symmetric(self) -> bool {
        match self {
            Self::HS256 => true,
            Self::EdDSA | Self::ES256 => false,
        }
    }
}

/// What the tenant's tokens have to look like, and how its keys live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantAuth {
    /// How tokens are signed. `HS256`: one secret signs and verifies. `EdDSA`, `ES256`: the agent API holds public keys
    /// only. A change is a rotation: the new key signs once every replica knows it, the old one verifies until its last
    /// token has expired.
    #[serde(default)]
    #[schemars(schema_with = "crd::algorithm_schema")]
    pub algorithm: SigningAlgorithm,
    /// A new key replaces the one that signs after this time, in seconds (from one hour to ten years). Without it, keys
    /// are rotated only on request. Those who sign have to read the Secret again at least every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3_600, max = 315_360_000))]
    pub rotation_period_seconds: Option<i32>,
    /// What the `iss` claim of a token must be.
    #[serde(default = "default_issuer")]
    #[schemars(length(min = 1, max = 256))]
    pub issuer: String,
    /// What the `aud` claim of a token must contain.
    #[serde(default = "default_audience")]
    #[schemars(length(min = 1, max = 256))]
    pub audience: String,
    /// Longest `exp - iat` of an accepted token, in seconds.
    #[serde(default = "default_token_seconds")]
    #[schemars(range(min = 60, max = 86_400))]
    pub max_token_seconds: i32,
}

fn default_issuer() -> String {
    "agent-tenancy".to_owned()
}

fn default_audience() -> String {
    "agent-api".to_owned()
}

const fn default_token_seconds() -> i32 {
    3600
}

impl Default for TenantAuth {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::default(),
            rotation_period_seconds: None,
            issuer: default_issuer(),
            audience: default_audience(),
            max_token_seconds: default_token_seconds(),
        }
    }
}
