//! Letting one Tenant take over what a lost cluster left, because a person says so and not the settings: what is asked, what
//! may be recorded, and what is answered. The reconcile decides whether and when the data is taken over (`takeover`).

use super::{
    installation::Installation,
    observed::{LedgerFacts, LedgerRow, RowState},
};
use crate::domain::{
    admin_api::TakeoverAnswer,
    ident::{Incarnation, ObjectId, TenantId, Uid},
};

/// Longest id of a cluster.
const MAX_CLUSTER_ID: usize = 253;

/// What is recorded: this owner's data may go to that Tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The tenant id.
    pub tenant_id: TenantId,
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// UID of the Tenant that has it.
    pub previous: Uid,
    /// The cluster of that Tenant.
    pub from_cluster_id: String,
}

/// The Tenant for which a takeover is asked.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// Its tenant id.
    pub tenant_id: &'a TenantId,
    /// The Tenant.
    pub object: &'a ObjectId,
}

/// Whether the ledger says what was asked with: what to answer, and what to record first, if anything.
///
/// # Errors
/// A sentence that says why there is nothing to allow.
pub fn judge_request(
    applicant: Applicant<'_>,
    from: &str,
    facts: &LedgerFacts,
    installation: &Installation,
) -> Result<(TakeoverAnswer, Option<Permission>), String> {
    let Applicant { tenant_id, object } = applicant;
    if from.is_empty() || from.chars().count() > MAX_CLUSTER_ID {
        return Err("from: must be the id of a cluster".to_owned());
    }
    if from == installation.cluster_id {
        return Err(format!("from: '{from}' is this cluster's own id"));
    }
    let nobody = || format!("the ledger gives tenant id '{tenant_id}' to nobody");
    let row = facts.row.as_ref().ok_or_else(nobody)?;
    let answer = |done, wait_seconds| {
        let (tenant_id, incarnation) = (tenant_id.to_string(), row.incarnation);
        TakeoverAnswer { tenant_id, incarnation, done, wait_seconds }
    };
    match row.state {
        RowState::Active | RowState::Suspended | RowState::Deleting => {}
        RowState::Retained => {
            return Err(format!(
                "the database keeps the data of the deleted Tenant of tenant id '{tenant_id}': to take it over, \
                 set spec.database.adopt.previousUid to {}",
                row.uid
            ));
        }
        RowState::Dropped => return Err(nobody()),
    }
    if row.uid == object.uid {
        return Ok((answer(true, 0), None));
    }
    if row.cluster_id != from {
        return Err(format!("{}, not of cluster {from}", describe_owner(row)));
    }
    if (&row.namespace, &row.name) != (&object.namespace, &object.name) {
        return Err(format!("{}: only a Tenant of the same namespace and name takes it over", describe_owner(row)));
    }
    let silent = facts.heartbeat_age_seconds.unwrap_or_default();
    let wait_seconds = installation.predecessors.heartbeat_timeout_seconds.saturating_sub(silent);
    let permission = Permission {
        tenant_id: tenant_id.clone(),
        incarnation: row.incarnation,
        previous: row.uid.clone(),
        from_cluster_id: from.to_owned(),
    };
    Ok((answer(false, wait_seconds), Some(permission)))
}

/// Whose a row is, of whatever cluster.
pub(super) fn describe_owner(row: &LedgerRow) -> String {
    let LedgerRow { namespace, name, cluster_id, .. } = row;
    format!("the ledger gives this tenant id to Tenant {namespace}/{name} of cluster {cluster_id}")
}
