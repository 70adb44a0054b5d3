//! The `DatabaseInstance` resource: what the operator observes of one Postgres database of its settings. The operator
//! creates it and writes its status; its spec is empty.
#![allow(clippy::duplicated_attributes, reason = "columns repeat their keys inside #[kube]")]

use super::{Condition, schema};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One Postgres database that holds tenants. It is configured in the operator's settings; this spec is empty.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "agent-tenancy.dev",
    version = "v1alpha1",
    kind = "DatabaseInstance",
    namespaced,
    status = "DatabaseInstanceStatus",
    derive = "PartialEq",
    shortname = "adb",
    category = "agent-tenancy",
    doc = "What the operator observes of one Postgres database of its settings. Only the operator creates and writes it.",
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status",
        description = "Whether the database answers and can be used"
    ),
    printcolumn(
        name = "Server",
        type_ = "string",
        json_path = ".status.serverVersion",
        description = "Version of Postgres"
    ),
    printcolumn(
        name = "Schema-Version",
        type_ = "integer",
        json_path = ".status.migrations.version",
        description = "Schema version that tenants get"
    ),
    printcolumn(
        name = "Upgrade",
        type_ = "string",
        json_path = ".status.migrations.stage",
        description = "Stage of the upgrade of the tenants' schemas"
    ),
    printcolumn(
        name = "Behind",
        type_ = "integer",
        json_path = ".status.migrations.behind",
        description = "Tenants with missing migrations"
    ),
    printcolumn(
        name = "Blocked",
        type_ = "integer",
        json_path = ".status.migrations.blocked",
        description = "Tenants with a failed migration"
    ),
    printcolumn(
        name = "Headroom",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Headroom\")].status",
        description = "Whether the server has enough spare capacity"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "Details, and what to do",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since the object was created"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInstanceSpec {}

/// What the operator observed about the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInstanceStatus {
    /// Generation of the object that this status describes; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// Identity of the database, from its control schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub database_id: Option<String>,
    /// Version of Postgres, as in `18.6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub server_version: Option<String>,
    /// Progress of the migrations of its tenants' schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationsStatus>,
    /// Conditions of the database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Progress of the migrations of its tenants' schemas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationsStatus {
    /// Version of the product's schema that tenants get.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub version: i32,
    /// Number of custom migrations that tenants get.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub own_version: i32,
    /// Stage of the upgrade: `Done`, `Canaries`, `Holding`, `Rolling` or `Halted`.
    #[schemars(schema_with = "schema::stage_schema")]
    pub stage: String,
    /// Number of tenants with missing migrations.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub behind: i32,
    /// Number of those tenants that need manual intervention.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub blocked: i32,
}
