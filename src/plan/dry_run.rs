//! What a pass would do, told to people and programs without doing it: the answer of the operator to
//! `kubectl tenant plan`.

use super::{
    drift::render_list,
    step::{KeyChange, TenantStep},
    tenant::loss::kept_name,
};
use crate::{
    api::DeletionPolicy,
    domain::{custom_migrations::own_name, migrations::Track},
};

/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";

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
