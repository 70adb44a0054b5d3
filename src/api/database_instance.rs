//! The `DatabaseInstance` resource: what the operator sees of one Postgres database of its settings. The operator makes it
//! and writes its status; nobody has anything to say in it.
#![allow(clippy::duplicated_attributes, reason = "columns repeat their keys inside #[kube]")]

use super::{Condition, crd};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One Postgres database that holds tenants. It is set up in the operator's settings; there is nothing to say here.
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
    doc = "What the operator sees of one Postgres database of its settings. Made and written by the operator alone.",
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status",
        description = "Whether the database answers and is fit for use"
    ),
    printcolumn(
        name = "Server",
        type_ = "string",
        json_path = ".status.serverVersion",
        description = "Version of Postgres"
    ),
    printcolumn(
        name = "Tables",
        type_ = "integer",
        json_path = ".status.migrations.version",
        description = "Version of the tables that tenants get"
    ),
    printcolumn(
        name = "Upgrade",
        type_ = "string",
        json_path = ".status.migrations.stage",
        description = "Where the upgrade of the tenants' tables is"
    ),
    printcolumn(
        name = "Behind",
        type_ = "integer",
        json_path = ".status.migrations.behind",
        description = "Tenants that have not had every migration"
    ),
    printcolumn(
        name = "Blocked",
        type_ = "integer",
        json_path = ".status.migrations.blocked",
        description = "Tenants that get no further"
    ),
    printcolumn(
        name = "Headroom",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Headroom\")].status",
        description = "Whether the server's limits are far enough away"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "What to know or do",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Since when the object exists"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInstanceSpec {}

/// What the operator sees of the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseInstanceStatus {
    /// Generation of the object that this status speaks of; -1 before the first look.
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
    /// How far their tables are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationsStatus>,
    /// The state of the database, by aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crd::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// How far the tables of an instance's tenants are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationsStatus {
    /// Version of the program's tables that tenants get.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub version: i32,
    /// How many migrations of the platform team's own tenants get.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub own_version: i32,
    /// Where the upgrade is: `Done`, `Canaries`, `Ownership`, `Rolling` or `Halted`.
    #[schemars(schema_with = "crd::stage_schema")]
    pub stage: String,
    /// Tenants that have not had every file.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub behind: i32,
    /// Those of them that get no further by themselves.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub blocked: i32,
}
