//! What a pass would do, told to people and programs without doing it: the answer of the operator to
//! `kubectl tenant plan`.

use super::{
    drift::render_list,
    step::{KeyChange, TenantStep},
    tenant::loss::kept_name,
};
use crate::{
    api::{Condition, DeletionPolicy},
    domain::{custom_migrations::own_name, migrations::Track},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Audience of the tokens that open the operator's door, for plans and takeovers: of no use anywhere else.
pub const AUDIENCE: &str = "agent-tenancy.dev/plan";

/// Carries the token where the API server passes the request on: of its own `Authorization` nothing gets through.
pub const TOKEN_HEADER: &str = "x-agent-tenancy-token";

/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// What one pass of a Tenant would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Namespace of the Tenant.
    pub namespace: String,
    /// Name of the Tenant.
    pub name: String,
    /// What is assumed to happen to it.
    pub event: Event,
    /// What would be done, in order.
    pub steps: Vec<DryRunStep>,
    /// What would be awaited after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Why a step could not even be prepared; those after it are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The conditions that the Tenant would show then.
    pub conditions: Vec<Condition>,
}

/// What is assumed to happen to a Tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It is created.
    Created,
    /// It is applied over the one that is there.
    Updated,
    /// Nothing: it stays as it is.
    None,
    /// It is deleted.
    Deleted,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunStep {
    /// What it does, in a sentence.
    pub sentence: String,
    /// Its requests of the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<DryRunRequest>,
    /// The text that is sent to the database: one message, one transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
}

/// A request of the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunRequest {
    /// Its verb, as in RBAC.
    pub verb: String,
    /// The resource, as in RBAC.
    pub resource: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// What it says; secrets are left out.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub content: Value,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// A sentence for people.
    pub error: String,
    /// This operator does not lead: another one has to be asked, and this is its identity in the Lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
}

/// A step in a sentence.
pub fn render_sentence(step: &TenantStep) -> String {
    match step {
        TenantStep::AddFinalizer => "Put the finalizer on the Tenant, before anything is made for it".to_owned(),
        TenantStep::CreateCell { cell, .. } => {
            format!("Publish a login for cell {cell} of the database, then make the cell's roles")
        }
        TenantStep::Provision(provision) => format!(
            "Make the tenant in the database, in one transaction: ledger row, role '{}', schema '{}', tables, rights",
            provision.role, provision.schema
        ),
        TenantStep::Adopt(adoption) => format!(
            "Take over the data of {}, in one transaction: ledger row, role '{}', schema '{}', \
             tables of this version, rights",
            adoption.describe_owner(),
            adoption.role,
            adoption.schema
        ),
        TenantStep::PreventAdoption { row } => {
            format!("Make sure that the kept data of Tenant {}/{} stays as it is", row.namespace, row.name)
        }
        TenantStep::RepairDatabase { row, found } => {
            format!("Put role '{}' and schema '{}' back in order: {}", row.role, row.schema, render_list(found.iter()))
        }
        TenantStep::Migrate(step) => {
            let within = if step.file.is_transactional() { "in one transaction" } else { "outside of a transaction" };
            let schema = match step.track {
                Track::Base => step.row.schema.clone(),
                Track::Custom => own_name(&step.row.schema),
            };
            format!("Apply migration {} to schema '{schema}', {within}", step.file.name)
        }
        TenantStep::SetAside { name, remains, .. } => format!(
            "Put what is left of '{name}' out of the way, because incarnation {} was given up; a schema is kept as '{}'",
            remains.incarnation,
            kept_name(name, remains.incarnation)
        ),
        TenantStep::CreateKeys { .. } => "Create the Secret with the tenant's signing keys".to_owned(),
        TenantStep::ReplaceKeys { change, acknowledged, .. } => {
            let what = match change {
                KeyChange::Standby => "add a new key, which does not sign yet",
                KeyChange::Promotion => "let the new key sign",
                KeyChange::Revocation => "revoke keys",
                KeyChange::Tidying => "leave out keys that are over",
                KeyChange::Repair => "put it back in order",
            };
            let look = if acknowledged.is_some() { ", once every replica is seen to know the key" } else { "" };
            format!("Replace the Secret with the signing keys: {what}{look}")
        }
        TenantStep::RecordKeyring { mark, .. } => format!("Note keyring {} in the ledger", mark.version),
        TenantStep::PutEntry { entry, replace } => {
            let word = if replace.is_some() { "Replace" } else { "Create" };
            format!("{word} the tenant's registry entry, which every replica of the agent API reads: {:?}", entry.state)
                .to_owned()
        }
        TenantStep::SuspendAccess { row } => {
            format!("Take the agent API's access to role '{}' away; data is kept", row.role)
        }
        TenantStep::ResumeAccess { row } => format!("Give the agent API its access to role '{}' back", row.role),
        TenantStep::RevokeAccess { row } => {
            format!("Take the agent API's access to role '{}' away, because the tenant is deleted", row.role)
        }
        TenantStep::CloseDatabase(close) => match (&close.row, close.policy) {
            (None, _) => "Leave a tombstone in the ledger; nothing was made in the database".to_owned(),
            (Some(row), DeletionPolicy::Retain) => {
                format!("Close the tenant in the ledger; schema '{}' and its data are KEPT", row.schema)
            }
            (Some(row), DeletionPolicy::Archive) => format!(
                "Rename schema '{}' and role '{}' to '{}', to be DROPPED after {} seconds; leave a tombstone",
                row.schema,
                row.role,
                row.incarnation.archive_name(&row.schema),
                close.archive_seconds
            ),
            (Some(row), DeletionPolicy::Delete) => {
                format!("DROP schema '{}' with all its data, and role '{}'; leave a tombstone", row.schema, row.role)
            }
        },
        TenantStep::DeleteEntry { .. } => "Delete the tenant's registry entry".to_owned(),
        TenantStep::DeleteKeys { .. } => "Delete the Secret with the signing keys".to_owned(),
        TenantStep::RemoveFinalizer => "Take the finalizer off, which lets the Tenant go".to_owned(),
        TenantStep::WriteStatus(_) => "Write the Tenant's status".to_owned(),
        TenantStep::RecordEvent(notice) => format!("Record the event {}: {}", notice.reason, notice.note),
    }
}
