//! Taking over tenants of a lost cluster: a cluster that is rebuilt from the same manifests has other UIDs and
//! another id, and its database holds rows of the lost one. The settings name its predecessors, or a user with the
//! verb `takeover` allows it for one Tenant (`permission`); what carries the same tenant id, namespace and name goes over,
//! once nothing has been heard of the predecessor for long enough.

use super::{
    adopt::{Evidence, check_fit, of_row},
    inputs::Inputs,
    refusal::Refusal,
};
use crate::plan::{
    observed::data_owner::TAKEN,
    observed::{LedgerRow, RowState},
    report::{PartReport, PartState},
    step::{Adoption, AdoptionSource},
    takeover_request::describe_owner,
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::class::ErrorClass,
};

/// What a Tenant takes over from another cluster's of the same name, or why it does not yet; `None` where no other
/// cluster's Tenant has the tenant id.
pub(crate) fn judge_predecessor(inputs: Inputs<'_>) -> Option<Result<Adoption, PartReport>> {
    let Inputs { desired, observed, installation, .. } = inputs;
    let facts = observed.database.facts()?;
    let left = |row: &&LedgerRow| {
        let in_use = matches!(row.state, RowState::Active | RowState::Suspended | RowState::Deleting);
        in_use && row.uid != desired.object.uid && row.cluster_id != installation.cluster_id
    };
    let row = facts.row.as_ref().filter(left)?;
    let (cluster, heartbeat_timeout_seconds) = (&row.cluster_id, installation.predecessors.heartbeat_timeout_seconds);
    let owner = describe_owner(row);
    let foreign = |note: String| Some(Err(Refusal::Foreign(note).report()));
    if (&row.namespace, &row.name) != (&desired.object.namespace, &desired.object.name) {
        return match row.owner().is_namespace_of(&desired.object, installation) {
            true => foreign(format!("{owner}: only a Tenant of the same namespace and name takes it over")),
            false => foreign(TAKEN.to_owned()),
        };
    }
    let named = installation.predecessors.cluster_ids.contains(cluster);
    if !named && !facts.permitted.iter().any(|grant| grant.is(&desired.object.uid, installation)) {
        return foreign(format!(
            "{owner}: if that cluster is lost, name it in the operator's previousClusterIds, or let this Tenant alone take \
             it over: kubectl tenant takeover {} --from {cluster}",
            row.name
        ));
    }
    // It had data of its own, restored with its status: that is not this.
    if observed.recorded.incarnation.is_some_and(|incarnation| incarnation != row.incarnation) {
        return foreign(format!("{owner}, and the status of this Tenant names another incarnation"));
    }
    if facts.heartbeat_age_seconds.is_none_or(|age| age < heartbeat_timeout_seconds) {
        let note = format!(
            "{owner}, a predecessor of this one that was heard of less than {heartbeat_timeout_seconds} seconds ago: it is taken \
             over when its operator has been silent for so long"
        );
        let state = PartState::Refused(ErrorClass::Waiting);
        return Some(Err(PartReport::new(Part::Accepted, state, Reason::Conflict, note)));
    }
    let source =
        AdoptionSource::Predecessor { cluster_id: cluster.clone(), heartbeat_timeout_seconds, by_permission: !named };
    match check_fit(of_row(inputs, row, source), Evidence::of_row(facts, row)) {
        Ok(adoption) => Some(Ok(adoption)),
        Err(note) => foreign(format!("{owner}; {note}")),
    }
}
