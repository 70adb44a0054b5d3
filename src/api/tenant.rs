//! The `Tenant` resource: one customer of the shared agent API.
#![allow(clippy::duplicated_attributes, reason = "columns repeat their keys inside #[kube]")]

use super::{
    SigningAlgorithm, TenantStatus,
    bounds::{self, Bounds},
    schema,
};
use kube::{CustomResource, KubeSchema, core::Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
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
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why the tenant is ready or not"),
    printcolumn(name = "Schema-Version", type_ = "integer", json_path = ".status.database.schemaVersion", description = "Version of the tenant's schema"),
    printcolumn(name = "Tenant-Id", type_ = "string", json_path = ".status.tenantId", description = "Tenant id in URLs and tokens"),
    printcolumn(name = "Schema", type_ = "string", json_path = ".status.database.schema", description = "Name of the schema in the database", priority = 1),
    printcolumn(name = "Kid", type_ = "string", json_path = ".status.keys.currentKid", description = "Id of the signing key", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "Details, and what to do", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the object was created"),
    selectable = ".spec.tenantId",
    selectable = ".spec.database.deletionPolicy",
    validation = schema::name_is_id_rule(),
    validation = schema::reserved_id_rule(),
    validation = kube::core::Rule::new("has(self.spec.tenantId) == has(oldSelf.spec.tenantId)").message("spec.tenantId must not be added or removed after creation"),
    validation = schema::instance_stays_rule(),
)]
#[x_kube(validation = kube::core::Rule::new("!has(self.defaultAgent) || self.agents.exists(a, a.name == self.defaultAgent)").message("defaultAgent must name one of agents"))]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// Id of the tenant in URLs and tokens: 1 to 63 characters of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`, starting and
    /// ending with a letter or digit, such as `acme`, `tenant_123` or a UUID. `Acme` and `acme` are two tenants.
    /// Defaults to the object's name. No two Tenants of one registry may have the same id. Immutable: it can't be
    /// changed, added or removed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::TENANT_ID.min, max = bounds::TENANT_ID.max), regex(pattern = bounds::TENANT_ID_PATTERN))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("tenantId must not change"))]
    pub tenant_id: Option<String>,

    /// Name that tools show to people. It has no other effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = TenantSpec::DISPLAY_NAME.min, max = TenantSpec::DISPLAY_NAME.max))]
    pub display_name: Option<String>,

    /// Takes the tenant out of service until this is false again: requests are refused (403), and the agent API loses
    /// access to the data. Data and keys are kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,

    /// The agents of this tenant.
    #[schemars(schema_with = "agents_schema")]
    pub agents: Vec<TenantAgent>,

    /// The agent that answers requests which name none. Defaults to the first of `agents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::ID.min, max = bounds::ID.max), regex(pattern = bounds::ID_PATTERN))]
    pub default_agent: Option<String>,

    /// Settings that the tenant itself may change with `PUT …/settings`, within the bounds of the AgentConfig and this
    /// Tenant. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::mutable_schema")]
    pub tenant_mutable: Vec<MutableSetting>,

    /// The tenant's data in the database.
    #[serde(default, skip_serializing_if = "is_default")]
    pub database: TenantDatabase,

    /// What the tenant's tokens must contain, and how its keys are rotated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auth: TenantAuth,
}

impl TenantSpec {
    pub(crate) const DISPLAY_NAME: Bounds<usize> = Bounds { min: 1, max: 128 };
    pub(crate) const AGENTS: Bounds<usize> = Bounds { min: 1, max: 16 };
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One agent of a tenant: an AgentConfig under a name that the tenant chooses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantAgent {
    /// Name of the agent in requests.
    #[schemars(length(min = bounds::ID.min, max = bounds::ID.max), regex(pattern = bounds::ID_PATTERN))]
    pub name: String,
    /// Reference to the AgentConfig in the Tenant's namespace.
    pub config_ref: AgentConfigRef,
    /// Parameters that differ from the AgentConfig for this tenant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overrides: AgentOverrides,
}

/// Reference to an AgentConfig in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfigRef {
    /// Name of the AgentConfig.
    #[schemars(length(min = bounds::OBJECT_NAME.min, max = bounds::OBJECT_NAME.max), regex(pattern = bounds::OBJECT_NAME_PATTERN))]
    pub name: String,
}

/// Parameters of an agent that differ for this tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentOverrides {
    /// Sampling temperature as a decimal string from '0' to '2'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::DECIMAL.min, max = bounds::DECIMAL.max), regex(pattern = bounds::TEMPERATURE_PATTERN))]
    pub temperature: Option<String>,
    /// Nucleus sampling as a decimal string from '0' to '1'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::DECIMAL.min, max = bounds::DECIMAL.max), regex(pattern = bounds::TOP_P_PATTERN))]
    pub top_p: Option<String>,
    /// Maximum number of tokens in one answer, never more than the AgentConfig allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = bounds::OUTPUT_TOKENS.min, max = bounds::OUTPUT_TOKENS.max))]
    pub max_output_tokens: Option<i32>,
    /// Text that is appended to the AgentConfig's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::INSTRUCTIONS.min, max = bounds::INSTRUCTIONS.max))]
    pub instructions: Option<String>,
}

/// A setting that a tenant may be allowed to change itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum MutableSetting {
    /// The agent that answers requests which name none.
    DefaultAgent,
    /// Sampling temperature.
    Temperature,
    /// Nucleus sampling.
    TopP,
    /// Maximum number of tokens in one answer, up to what the Tenant and the AgentConfig allow.
    MaxOutputTokens,
    /// Text that is appended to the system prompt.
    Instructions,
}

/// The tenant's data in the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", default = "TenantDatabase::default")]
pub struct TenantDatabase {
    /// Name of the database instance, from the operator's settings, that holds the tenant's data. Defaults to the one
    /// with the fewest tenants among those that accept new ones; `status.database.instance` shows the choice.
    /// Immutable: it can't be changed, added or removed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = TenantDatabase::INSTANCE.min, max = TenantDatabase::INSTANCE.max), regex(pattern = TenantDatabase::INSTANCE_PATTERN))]
    #[x_kube(validation = kube::core::Rule::new("self == oldSelf").message("instance must not change"))]
    pub instance: Option<String>,
    /// What happens to the tenant's schema, role and data when the Tenant is deleted. `Retain` keeps them without
    /// access for the agent API, and keeps the tenant id in use. `Archive` keeps them under another name for a time
    /// from the operator's settings, and frees the tenant id. `Delete` drops them permanently.
    #[schemars(schema_with = "schema::deletion_policy_schema")]
    pub deletion_policy: DeletionPolicy,
    /// Takes over the data that was kept when an earlier Tenant with this tenant id was deleted. Without it, the tenant
    /// starts empty. Ignored once this Tenant has data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<TenantAdoption>,
    /// Maximum number of concurrent transactions of this tenant in one replica of the agent API.
    #[schemars(range(min = TenantDatabase::TRANSACTIONS.min, max = TenantDatabase::TRANSACTIONS.max))]
    pub max_concurrent_transactions: i32,
    /// Maximum duration of one SQL statement of this tenant, in seconds.
    #[schemars(range(min = TenantDatabase::STATEMENT_SECONDS.min, max = TenantDatabase::STATEMENT_SECONDS.max))]
    pub statement_timeout_seconds: i32,
    /// Maximum number of bytes that the tenant may store, as a quantity in whole numbers from `1Mi` to `1Pi`: the text
    /// of its messages and the values of its settings. When the limit is reached, the agent API refuses requests that
    /// would store more (507) until something is deleted; reading and deleting still work. No limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = TenantDatabase::QUANTITY.min, max = TenantDatabase::QUANTITY.max), regex(pattern = TenantDatabase::QUANTITY_PATTERN))]
    #[x_kube(validation = storage_limit_rule())]
    pub storage_limit: Option<String>,
}

impl TenantDatabase {
    pub(crate) const INSTANCE: Bounds<usize> = Bounds { min: 1, max: 30 };
    pub(crate) const INSTANCE_PATTERN: &str = r"^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$";
    pub(crate) const TRANSACTIONS: Bounds<i32> = Bounds { min: 1, max: 100 };
    pub(crate) const STATEMENT_SECONDS: Bounds<i32> = Bounds { min: 1, max: 300 };
    pub(crate) const STORAGE_LIMIT: Bounds<&'static str> = Bounds { min: "1Mi", max: "1Pi" };
    /// Length of a quantity in whole numbers: sixteen digits and a unit.
    pub(crate) const QUANTITY: Bounds<usize> = Bounds { min: 1, max: 18 };
    /// Pattern of a quantity in whole numbers.
    pub(crate) const QUANTITY_PATTERN: &str = r"^[1-9][0-9]{0,15}([kMGTP]|[KMGTP]i)?$";
}

impl Default for TenantDatabase {
    fn default() -> Self {
        Self {
            instance: None,
            deletion_policy: DeletionPolicy::default(),
            adopt: None,
            max_concurrent_transactions: 8,
            statement_timeout_seconds: 10,
            storage_limit: None,
        }
    }
}

/// The data to take over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantAdoption {
    /// `metadata.uid` of the deleted Tenant that left kept (`Retain`) or archived (`Archive`) data. If there is no such
    /// data, nothing is created.
    #[schemars(length(min = TenantAdoption::PREVIOUS_UID.min, max = TenantAdoption::PREVIOUS_UID.max), regex(pattern = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    pub previous_uid: String,
}

impl TenantAdoption {
    pub(crate) const PREVIOUS_UID: Bounds<usize> = Bounds { min: 36, max: 36 };
}

/// What happens to a tenant's data when the Tenant is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DeletionPolicy {
    /// Schema, role and data are kept; the agent API loses access to them.
    #[default]
    Retain,
    /// Schema, role and data are kept under another name for a time and then dropped; the tenant id is free at once.
    Archive,
    /// Schema, role and data are dropped.
    Delete,
}

/// What the tenant's tokens must contain, and how its keys are rotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", default = "TenantAuth::default")]
pub struct TenantAuth {
    /// How tokens are signed. `HS256`: one secret signs and verifies. `EdDSA`, `ES256`: the agent API has public keys
    /// only. A change is a rotation: the new key signs once every replica has it, and the old key verifies until its
    /// last token has expired.
    #[schemars(schema_with = "schema::algorithm_schema")]
    pub algorithm: SigningAlgorithm,
    /// Time after which a new key replaces the signing key, in seconds (from one hour to ten years). Without it, keys
    /// are rotated only on request. Signers must read the Secret again at least every five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = TenantAuth::ROTATION_SECONDS.min, max = TenantAuth::ROTATION_SECONDS.max))]
    pub rotation_period_seconds: Option<i32>,
    /// Required value of the `iss` claim of a token.
    #[schemars(length(min = TenantAuth::CLAIM.min, max = TenantAuth::CLAIM.max))]
    pub issuer: String,
    /// Value that the `aud` claim of a token must contain.
    #[schemars(length(min = TenantAuth::CLAIM.min, max = TenantAuth::CLAIM.max))]
    pub audience: String,
    /// Maximum lifetime of an accepted token (`exp - iat`), in seconds.
    #[schemars(range(min = TenantAuth::TOKEN_SECONDS.min, max = TenantAuth::TOKEN_SECONDS.max))]
    pub max_token_seconds: i32,
}

impl TenantAuth {
    /// Values of `rotationPeriodSeconds`: from one hour to ten years.
    pub(crate) const ROTATION_SECONDS: Bounds<i32> = Bounds { min: 3_600, max: 315_360_000 };
    /// Length of `issuer` and `audience`.
    pub(crate) const CLAIM: Bounds<usize> = Bounds { min: 1, max: 256 };
    pub(crate) const TOKEN_SECONDS: Bounds<i32> = Bounds { min: 60, max: 86_400 };
}

impl Default for TenantAuth {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::default(),
            rotation_period_seconds: None,
            issuer: "agent-tenancy".to_owned(),
            audience: "agent-api".to_owned(),
            max_token_seconds: 3600,
        }
    }
}

/// Rule for `spec.database.storageLimit`: within its bounds.
fn storage_limit_rule() -> Rule {
    let Bounds { min, max } = TenantDatabase::STORAGE_LIMIT;
    Rule::new(format!(
        "quantity(self).compareTo(quantity('{min}')) >= 0 && quantity(self).compareTo(quantity('{max}')) <= 0"
    ))
    .message(format!("storageLimit must be from {min} to {max}").as_str())
}

/// Schema of `spec.agents`: a list-map by name, at most 16.
fn agents_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<TenantAgent>();
    json_schema!({
        "type": "array",
        "minItems": TenantSpec::AGENTS.min,
        "maxItems": TenantSpec::AGENTS.max,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": item
    })
}
