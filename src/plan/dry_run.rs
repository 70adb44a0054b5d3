//! The result of a dry run, which `kubectl tenant plan` shows: the steps that reconciling a Tenant would perform.

use super::{
    drift::render_list,
    step::{CellStep, DatabaseStep, EntryStep, KeyChange, KeysStep, ObjectStep, TenantStep},
    tenant::loss::kept_name,
};
use crate::{
    api::{Condition, DeletionPolicy},
    domain::{custom_migrations::own_name, migrations::Track},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Audience of the tokens that the admin API accepts, for plans and takeovers.
pub const AUDIENCE: &str = "agent-tenancy.dev/plan";

/// Header for the token if the API server proxies the request: it removes the `Authorization` header.
pub const TOKEN_HEADER: &str = "x-agent-tenancy-token";

/// Placeholder of a secret.
pub const REDACTED: &str = "<redacted>";

/// What reconciling a Tenant would do.
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
    /// Why a step could not be rendered. Later steps are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The conditions of the Tenant after the steps.
    pub conditions: Vec<Condition>,
}

/// The assumed change of a Tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It is created.
    Created,
    /// It is applied over the existing one.
    Updated,
    /// It does not change.
    None,
    /// It is deleted.
    Deleted,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunStep {
    /// What the step does, in a sentence.
    pub sentence: String,
    /// The requests to the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<DryRunRequest>,
    /// The SQL that is sent to the database. Each text is one message and one transaction.
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
    /// The content, without secrets.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
}

/// Why the admin API refuses a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The reason, as a sentence.
    pub error: String,
    /// Identity of the leader in the Lease, if this operator does not lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// Describes a step in a sentence.
pub fn render_sentence(step: &TenantStep) -> String {
    match step {
        TenantStep::Database(step) => render_database_sentence(step),
        TenantStep::Object(ObjectStep::AddFinalizer) => {
            "Add the finalizer to the Tenant, before anything is created for it".to_owned()
        }
        TenantStep::Cell(CellStep::Create { cell, .. }) => {
            format!("Publish a login for cell {cell} of the database, then create the roles of the cell")
        }
        TenantStep::Keys(KeysStep::Create { .. }) => "Create the Secret with the tenant's signing keys".to_owned(),
        TenantStep::Keys(KeysStep::Replace { change, acknowledged, .. }) => {
            let what = match change {
                KeyChange::Standby => "add a new key, which does not sign yet",
                KeyChange::Promotion => "start to sign with the new key",
                KeyChange::Revocation => "revoke keys",
                KeyChange::Tidying => "remove expired keys",
                KeyChange::Repair => "repair it",
            };
            let condition = if acknowledged.is_some() { ", if every replica knows the key" } else { "" };
            format!("Replace the Secret with the signing keys: {what}{condition}")
        }
        TenantStep::Entry(EntryStep::Put { entry, replace }) => {
            let word = if replace.is_some() { "Replace" } else { "Create" };
            format!("{word} the tenant's registry entry, which every replica of the agent API reads: {:?}", entry.state)
                .to_owned()
        }
        TenantStep::Entry(EntryStep::Delete { .. }) => "Delete the tenant's registry entry".to_owned(),
        TenantStep::Keys(KeysStep::Delete { .. }) => "Delete the Secret with the signing keys".to_owned(),
        TenantStep::Object(ObjectStep::RemoveFinalizer) => {
            "Remove the finalizer, so that the Tenant is deleted".to_owned()
        }
        TenantStep::Object(ObjectStep::WriteStatus(_)) => "Write the Tenant's status".to_owned(),
        TenantStep::Object(ObjectStep::RecordEvent(notice)) => {
            format!("Record the event {}: {}", notice.reason, notice.note)
        }
    }
}

fn render_database_sentence(step: &DatabaseStep) -> String {
    match step {
        DatabaseStep::Provision(provision) => format!(
            "Create the tenant in the database, in one transaction: ledger row, role '{}', schema '{}', tables, privileges",
            provision.role, provision.schema
        ),
        DatabaseStep::Adopt(adoption) => format!(
            "Take over the data of {}, in one transaction: ledger row, role '{}', schema '{}', \
             migrations, privileges",
            adoption.describe_owner(),
            adoption.role,
            adoption.schema
        ),
        DatabaseStep::PreventAdoption { row } => {
            format!("Keep the retained data of Tenant {}/{} from being taken over", row.namespace, row.name)
        }
        DatabaseStep::Repair { row, found } => {
            format!("Repair role '{}' and schema '{}': {}", row.role, row.schema, render_list(found.iter()))
        }
        DatabaseStep::Migrate(step) => {
            let within = if step.file.is_transactional() { "in one transaction" } else { "outside of a transaction" };
            let schema = match step.track {
                Track::Base => step.row.schema.clone(),
                Track::Custom => own_name(&step.row.schema),
            };
            format!("Apply migration {} to schema '{schema}', {within}", step.file.name)
        }
        DatabaseStep::SetAside { name, remains, .. } => format!(
            "Move the remains of '{name}' out of the way, because the loss of incarnation {} was accepted; a schema is kept as '{}'",
            remains.incarnation,
            kept_name(name, remains.incarnation)
        ),
        DatabaseStep::RecordKeyring { mark, .. } => format!("Record keyring {} in the ledger", mark.version),
        DatabaseStep::SuspendAccess { row } => {
            format!("Suspend the agent API's access to role '{}'; data is kept", row.role)
        }
        DatabaseStep::ResumeAccess { row } => format!("Resume the agent API's access to role '{}'", row.role),
        DatabaseStep::RevokeAccess { row } => {
            format!("Revoke the agent API's access to role '{}', because the tenant is deleted", row.role)
        }
        DatabaseStep::Close(close) => match (&close.row, close.policy) {
            (None, _) => "Write a tombstone to the ledger; nothing was created in the database".to_owned(),
            (Some(row), DeletionPolicy::Retain) => {
                format!("Close the tenant in the ledger; schema '{}' and its data are KEPT", row.schema)
            }
            (Some(row), DeletionPolicy::Archive) => format!(
                "Rename schema '{}' and role '{}' to '{}', to be DROPPED after {} seconds; write a tombstone",
                row.schema,
                row.role,
                row.incarnation.archive_name(&row.schema),
                close.archive_seconds
            ),
            (Some(row), DeletionPolicy::Delete) => {
                format!("DROP schema '{}' with all its data, and role '{}'; write a tombstone", row.schema, row.role)
            }
        },
    }
}
