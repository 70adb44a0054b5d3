//! The status of a `Tenant`: what the operator observed. People read it, and the next reconcile uses it as evidence.

use super::{Condition, SigningAlgorithm, bounds, schema};
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the operator observed about the Tenant. `observedGeneration` is -1 until the operator has reconciled the object
/// for the first time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// Id of the tenant, from the spec or from the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::TENANT_ID.max))]
    pub tenant_id: Option<String>,
    /// Location of the tenant's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<TenantDatabaseStatus>,
    /// Ids and states of the tenant's signing keys, without the keys themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<TenantKeysStatus>,
    /// The last proof that every ready replica serves the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<TenantServedStatus>,
    /// Conditions of the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Location of a tenant's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantDatabaseStatus {
    /// Name of the database instance in the operator's settings.
    #[schemars(length(max = 63))]
    pub instance: String,
    /// Identity of the database, from its control schema. A different identity gives the reason `DatabaseChanged`.
    #[schemars(length(max = 36))]
    pub database_id: String,
    /// Identity of the tenant's data. Adoption keeps it; new data gets a new one.
    #[schemars(length(max = 36))]
    pub incarnation: String,
    /// Schema with the tenant's tables.
    #[schemars(length(max = 63))]
    pub schema: String,
    /// Postgres role that the agent API sets for this tenant. It has privileges on these tables only.
    #[schemars(length(max = 63))]
    pub role: String,
    /// Version of the tenant's schema: the number of the last applied migration.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub schema_version: i32,
}

/// The tenant's signing keys, without the keys themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeysStatus {
    /// Secret in the Tenant's namespace: `current.kid`, `current.key`, `current.alg`, `ring.json`.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// Id of the signing key. Absent after a loss, until every replica has its successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub current_kid: Option<String>,
    /// Every key that verifies tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "keyring_schema")]
    pub ring: Vec<TenantKeyStatus>,
}

/// One key of a tenant, without the key itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantKeyStatus {
    /// Id of the key (`kid`).
    #[schemars(length(min = 1, max = 64))]
    pub kid: String,
    /// State of the key: `Standby` verifies and signs next, `Current` signs, `Previous` verifies until its last token
    /// has expired, `Revoked` verifies nothing.
    #[schemars(schema_with = "schema::key_state_schema")]
    pub state: KeyStatusState,
    /// Signing algorithm of the key.
    #[schemars(schema_with = "schema::status_algorithm_schema")]
    pub algorithm: SigningAlgorithm,
    /// When the key entered this state.
    #[schemars(schema_with = "schema::time_schema")]
    pub last_transition_time: jiff::Timestamp,
    /// When a `Previous` key stops verifying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_schema")]
    pub expiration_time: Option<jiff::Timestamp>,
}

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatusState {
    /// Verifies and does not sign yet.
    Standby,
    /// Signs and verifies.
    Current,
    /// Verifies until its last token has expired.
    Previous,
    /// Was revoked; stays in the Secret until its successor may sign.
    Revoked,
}

/// Proof that a tenant is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantServedStatus {
    /// `resourceVersion` of the registry entry that every ready replica acknowledged.
    #[schemars(length(max = 20))]
    pub entry_version: String,
    /// Generation of the spec that the entry was created from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub generation: Option<i64>,
    /// When the operator observed the last of these acknowledgements.
    #[schemars(schema_with = "schema::time_schema")]
    pub served_time: jiff::Timestamp,
}

/// Schema of `status.keys.ring`: a list-map by kid, with room for every key of a full keyring.
fn keyring_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<TenantKeyStatus>();
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["kid"],
        "items": item
    })
}
