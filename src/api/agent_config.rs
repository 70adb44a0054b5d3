//! The `AgentConfig` resource: how one AI agent behaves, for any number of tenants in its namespace.
#![allow(clippy::duplicated_attributes, reason = "columns repeat their keys inside #[kube]")]

use super::{
    Condition,
    bounds::{self, Bounds},
    schema,
};
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How an AI agent behaves: its provider, model, prompt and parameters.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "agent-tenancy.dev",
    version = "v1alpha1",
    kind = "AgentConfig",
    namespaced,
    status = "AgentConfigStatus",
    derive = "PartialEq",
    shortname = "agc",
    category = "agent-tenancy",
    doc = "How an AI agent behaves: its provider, model, prompt and parameters. Tenants in the same namespace refer to it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every ready replica serves the current revision"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the AgentConfig is ready or not"
    ),
    printcolumn(
        name = "Revision",
        type_ = "integer",
        json_path = ".status.revision",
        description = "Number of the current revision"
    ),
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.provider.type",
        description = "Kind of provider"
    ),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model", description = "Name of the model"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Details, and what to do",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the object was created"
    ),
    selectable = ".spec.provider.type",
    selectable = ".spec.model"
)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfigSpec {
    /// The provider that answers.
    pub provider: AgentProvider,
    /// Name of the model at the provider.
    #[schemars(length(min = AgentConfigSpec::MODEL.min, max = AgentConfigSpec::MODEL.max))]
    pub model: String,
    /// Instructions that the model gets before every conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<SystemPrompt>,
    /// Parameters of each request to the provider.
    pub parameters: AgentParameters,
    /// How much of a conversation the provider gets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context: AgentContext,
    /// How long the provider may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: AgentTimeouts,
}

impl AgentConfigSpec {
    pub(crate) const MODEL: Bounds<usize> = Bounds { min: 1, max: 128 };
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The provider of an agent's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = kube::core::Rule::new("self.type == 'OpenAICompatible' ? has(self.baseUrl) : !has(self.baseUrl) && !has(self.apiKeySecretRef)").message("baseUrl must be set for 'OpenAICompatible'; baseUrl and apiKeySecretRef must not be set for 'Echo'"))]
#[serde(rename_all = "camelCase")]
pub struct AgentProvider {
    /// Kind of provider. `OpenAICompatible` is any server with OpenAI's `POST …/chat/completions` at `baseUrl`. `Echo`
    /// is built in, needs no key, and answers with the question and its configuration.
    #[serde(rename = "type")]
    #[schemars(schema_with = "schema::provider_type_schema")]
    pub type_: ProviderType,
    /// Base URL of the provider, without `/chat/completions`: `https://…/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = AgentProvider::BASE_URL.min, max = AgentProvider::BASE_URL.max), regex(pattern = r"^https?://[^\s?#]+$"))]
    pub base_url: Option<String>,
    /// Secret with the provider's API key, in the AgentConfig's namespace. Without it, requests have no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
}

impl AgentProvider {
    pub(crate) const BASE_URL: Bounds<usize> = Bounds { min: 8, max: 512 };
}

/// Kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ProviderType {
    /// Any server with OpenAI's `POST …/chat/completions`.
    OpenAICompatible,
    /// Built in: answers with the question and its configuration. Needs no key.
    Echo,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = bounds::OBJECT_NAME.min, max = bounds::OBJECT_NAME.max), regex(pattern = bounds::OBJECT_NAME_PATTERN))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = bounds::OBJECT_NAME.min, max = bounds::OBJECT_NAME.max), regex(pattern = bounds::SECRET_KEY_PATTERN))]
    pub key: String,
}

/// Instructions that the model gets before every conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SystemPrompt {
    /// Text of the prompt.
    #[schemars(length(min = SystemPrompt::INLINE.min, max = SystemPrompt::INLINE.max))]
    pub inline: String,
}

impl SystemPrompt {
    pub(crate) const INLINE: Bounds<usize> = Bounds { min: 1, max: 32_768 };
}

/// Parameters of each request to the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentParameters {
    /// Sampling temperature as a decimal string from '0' to '2'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::DECIMAL.min, max = bounds::DECIMAL.max), regex(pattern = bounds::TEMPERATURE_PATTERN))]
    pub temperature: Option<String>,
    /// Nucleus sampling as a decimal string from '0' to '1'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = bounds::DECIMAL.min, max = bounds::DECIMAL.max), regex(pattern = bounds::TOP_P_PATTERN))]
    pub top_p: Option<String>,
    /// Maximum number of tokens in one answer.
    #[schemars(range(min = bounds::OUTPUT_TOKENS.min, max = bounds::OUTPUT_TOKENS.max))]
    pub max_output_tokens: i32,
    /// Texts at which the model stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "stop_schema")]
    pub stop: Vec<String>,
    /// Seed for providers that can repeat an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = AgentParameters::SEED.min, max = AgentParameters::SEED.max))]
    pub seed: Option<i32>,
}

impl AgentParameters {
    /// Most texts in `stop`.
    pub(crate) const MAX_STOP: usize = 4;
    /// Length of a text in `stop`.
    pub(crate) const STOP: Bounds<usize> = Bounds { min: 1, max: 64 };
    pub(crate) const SEED: Bounds<i32> = Bounds { min: 0, max: i32::MAX };
}

/// How much of a conversation the provider gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", default = "AgentContext::default")]
pub struct AgentContext {
    /// Maximum number of earlier messages of the conversation that are sent with a question.
    #[schemars(range(min = AgentContext::HISTORY_MESSAGES.min, max = AgentContext::HISTORY_MESSAGES.max))]
    pub max_history_messages: i32,
}

impl AgentContext {
    pub(crate) const HISTORY_MESSAGES: Bounds<i32> = Bounds { min: 0, max: 200 };
}

impl Default for AgentContext {
    fn default() -> Self {
        Self { max_history_messages: 20 }
    }
}

/// How long the provider may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", default = "AgentTimeouts::default")]
pub struct AgentTimeouts {
    /// Maximum time until the answer is complete, in seconds.
    #[schemars(range(min = AgentTimeouts::TOTAL_SECONDS.min, max = AgentTimeouts::TOTAL_SECONDS.max))]
    pub total_seconds: i32,
}

impl AgentTimeouts {
    pub(crate) const TOTAL_SECONDS: Bounds<i32> = Bounds { min: 1, max: 600 };
}

impl Default for AgentTimeouts {
    fn default() -> Self {
        Self { total_seconds: 60 }
    }
}

/// What the operator observed about the AgentConfig. `observedGeneration` is -1 until the operator has reconciled the
/// object for the first time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentConfigStatus {
    /// Generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// Number of the current revision. Each change of behaviour creates the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub revision: Option<i64>,
    /// Hash of the content of the current revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision_hash: Option<String>,
    /// `resourceVersion` of the last registry entry that every ready replica acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub served_entry_version: Option<String>,
    /// Conditions of the AgentConfig.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Schema of `parameters.stop`: at most four texts.
fn stop_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": AgentParameters::MAX_STOP,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "string",
            "description": "A text at which the model stops.",
            "minLength": AgentParameters::STOP.min,
            "maxLength": AgentParameters::STOP.max
        }
    })
}
