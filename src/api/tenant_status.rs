//! The status of a `Tenant`: what the operator observed, for people and for the next pass as evidence.

use super::{Condition, SigningAlgorithm, crd};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the operator observed about the Tenant. `observedGeneration` is -1 until the operator looked for the first time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// The tenant's id, whether given or taken from the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub tenant_id: Option<String>,
    /// Where the tenant's data is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<TenantDatabaseStatus>,
    /// The tenant's signing keys; never the keys themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<TenantKeysStatus>,
    /// The last proof that every ready replica serves the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<TenantServedStatus>,
    /// The state of the tenant, by aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Where a tenant's data is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantDatabaseStatus {
    /// Name of the database in the operator's settings.
    #[schemars(length(max = 63))]
    pub instance: String,
    /// Identity of that database, from its control schema; another one there is `DatabaseChanged`.
    #[schemars(length(max = 36))]
    pub database_id: String,
    /// Identity of the tenant's data: survives adoption, changes with re-creation.
    #[schemars(length(max = 36))]
    pub incarnation: String,
    /// Schema with the tenant's tables.
    #[schemars(length(max = 63))]
    pub schema: String,
    /// Postgres role that the agent API takes on for this tenant; it may use these tables and nothing else.
    #[schemars(length(max = 63))]
    pub role: String,
    /// Version of the tenant's tables: the number of the last migration that was applied.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub schema_version: i32,
}

/// What is known of a tenant's signing keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeysStatus {
    /// Secret in the Tenant's namespace: `ring.json`, `current.kid`, `current.key`.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// Id of the key that signs; absent while its successor is not yet known everywhere after a loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub current_kid: Option<String>,
    /// Every key that verifies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::keyring_schema")]
    pub ring: Vec<TenantKeyStatus>,
}

/// One key of a tenant; never the key itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeyStatus {
    /// Its id.
    #[schemars(length(min = 1, max = 64))]
    pub kid: String,
    /// Where in its life it is: `Standby` verifies and signs next, `Current` signs, `Previous` verifies until its last
    /// token has expired, `Revoked` verifies nothing.
    #[schemars(schema_with = "crd::key_state_schema")]
    pub state: KeyStatusState,
    /// How it signs.
    #[schemars(schema_with = "crd::status_algorithm_schema")]
    pub algorithm: SigningAlgorithm,
    /// When it entered that state.
    #[schemars(schema_with = "crd::time_schema")]
    pub last_transition_time: jiff::Timestamp,
    /// Until when a `Previous` key verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crd::time_schema")]
    pub expiration_time: Option<jiff::Timestamp>,
}

/// Where in its life a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatusState {
    /// Verifies, does not sign yet.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies until its last token has expired.
    Previous,
    /// Was revoked; stands in the Secret until its successor may sign.
    Revoked,
}

/// Proof that a tenant is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantServedStatus {
    /// `resourceVersion` of the registry entry that every ready replica acknowledged.
    #[schemars(length(max = 20))]
    pub entry_version: String,
    /// Generation of the spec that this entry was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub generation: Option<i64>,
    /// When the operator saw the last of these acknowledgements.
    #[schemars(schema_with = "crd::time_schema")]
    pub served_time: jiff::Timestamp,
}
