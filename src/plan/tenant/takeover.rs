//! Taking over tenants of a cluster that is no more: one that was built anew from the same manifests has other UIDs and
//! another id, and its database is full of somebody else's rows. The settings name its predecessors, or a person with the
//! right to do so allows it for one Tenant (`permission`); what carries the same tenant id, namespace and name goes over,
//! once nothing has been heard of the predecessor for long enough.

use super::{
    adopt::{check_fit, of_row},
    ownership::Ownership,
    schema::resolve_target,
};
use crate::domain::resolve::DesiredTenant;
use crate::plan::{
    installation::Installation,
    observed::{DatabaseView, LedgerRow, ObservedTenant, RowState},
    step::{Adoption, AdoptionSource},
    takeover_request::describe_owner,
};

/// Judges anew what the ledger gives to another cluster's Tenant. Anything else stays as it was judged.
pub(crate) fn judge_takeover(
    ownership: Ownership,
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
) -> Ownership {
    let (Ownership::Foreign(_), DatabaseView::Facts(facts)) = (&ownership, &observed.database) else {
        return ownership;
    };
    let predecessors = &installation.predecessors;
    let left = |row: &&LedgerRow| {
        let in_use = matches!(row.state, RowState::Active | RowState::Suspended | RowState::Deleting);
        in_use && row.uid != desired.object.uid && row.cluster_id != installation.cluster_id
    };
    let Some(row) = facts.row.as_ref().filter(left) else { return ownership };
    let (cluster, silence_seconds) = (&row.cluster_id, predecessors.silence_seconds);
    let owner = describe_owner(row);
    if (&row.namespace, &row.name) != (&desired.object.namespace, &desired.object.name) {
        return Ownership::Foreign(format!("{owner}: only a Tenant of the same namespace and name takes it over"));
    }
    let named = predecessors.cluster_ids.contains(cluster);
    if !named && !facts.permitted.iter().any(|grant| grant.is(&desired.object.uid, installation)) {
        return Ownership::Foreign(format!(
            "{owner}: if that cluster is lost, name it in the operator's previousClusterIds, or let this Tenant alone take \
             it over: kubectl tenant takeover {} --from {cluster}",
            row.name
        ));
    }
    // It had data of its own, restored with its status: that is not this.
    if observed.recorded.incarnation.is_some_and(|incarnation| incarnation != row.incarnation) {
        return Ownership::Foreign(format!("{owner}, and the status of this Tenant names another incarnation"));
    }
    if facts.silence_seconds.is_none_or(|silence| silence < silence_seconds) {
        return Ownership::Awaited(format!(
            "{owner}, a predecessor of this one that was heard of less than {silence_seconds} seconds ago: it is taken \
             over when its operator has been silent for so long"
        ));
    }
    let source = AdoptionSource::Predecessor { cluster_id: cluster.clone(), silence_seconds, by_permission: !named };
    let adoption = Adoption { source, ..of_row(desired, row, resolve_target(installation, &observed.replicas)) };
    match check_fit(adoption, &row.schema_checksums, (&facts.role_mark, &facts.schema_mark), facts) {
        Ok(adoption) => Ownership::Adoptable(Box::new(adoption)),
        Err(note) => Ownership::Foreign(format!("{owner}; {note}")),
    }
}
