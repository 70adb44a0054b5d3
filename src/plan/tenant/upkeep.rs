//! Repairs of a provisioned tenant, also without a valid spec: the database needs nothing of the spec. The registry entry
//! does, so that its changes can only be reported.

use super::{
    location::provisioned_note,
    ownership::{Ownership, judge},
    schema::judge_tables,
};
use crate::plan::{
    Plan,
    drift::{Finding, render_remedies},
    installation::Installation,
    observed::{EntryView, LedgerRow, ObservedTenant, Recorded, Seen},
    report::{PartReport, PartState},
    step::{DatabaseStep, ObjectStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{class::ErrorClass, ident::ObjectId},
};

/// What is planned for the database of a tenant in use.
pub(crate) struct RepairPlan {
    /// The state of the database.
    pub report: PartReport,
    /// The version that its tables have once the steps are done.
    pub schema_version: i32,
}

/// Repairs what the operator's privileges suffice for, migrates the tables where it is their turn, and reports what an
/// administrator has to do about the rest. The tenant is served meanwhile.
pub(crate) fn plan_repair(
    row: LedgerRow,
    drift: Vec<Finding>,
    observed: &ObservedTenant,
    installation: &Installation,
    steps: &mut Vec<TenantStep>,
) -> RepairPlan {
    let report = |state, reason, note: String| PartReport::new(Part::DatabaseReady, state, reason, note);
    let note = provisioned_note(&row.schema);
    let (repairable, rest): (Vec<Finding>, Vec<Finding>) = drift.into_iter().partition(|finding| finding.repairable);
    let drifts = |list: Vec<Finding>| list.into_iter().map(|finding| finding.drift).collect::<Vec<_>>();
    let (found, rest) = (drifts(repairable), drifts(rest));
    let remedies = (!rest.is_empty()).then(|| render_remedies(&rest, &row, &observed.database));
    let mut tables = judge_tables(&row, observed, installation);
    let (schema_version, blocked) = (tables.version(&row), tables.blocked.take());
    let state = if found.is_empty() && tables.due.is_empty() { PartState::Ready } else { PartState::InProgress };
    if !found.is_empty() {
        steps.push(DatabaseStep::Repair { row, found }.into());
    }
    steps.extend(tables.into_steps());
    let report = match (remedies, blocked) {
        (Some(remedies), _) => report(PartState::Refused(ErrorClass::Denied), Reason::DriftNotRepairable, remedies),
        (None, Some((reason, note))) => report(PartState::Refused(ErrorClass::Conflict), reason, note),
        (None, None) => report(state, Reason::Provisioned, note),
    };
    RepairPlan { report, schema_version }
}

/// Repairs the database of a tenant without other changes. There is no report on a tenant that is not in use.
pub(crate) fn plan_upkeep(
    ownership: Ownership,
    observed: &ObservedTenant,
    installation: &Installation,
    steps: &mut Vec<TenantStep>,
) -> Option<PartReport> {
    match ownership {
        Ownership::Ours { row, drift } if row.state.in_use() => {
            Some(plan_repair(row, drift, observed, installation, steps).report)
        }
        Ownership::Ours { .. } | Ownership::Nothing { .. } | Ownership::GivenUp(_) => None,
    }
}

/// Plans a Tenant with an invalid spec. Where something was made for it (then the world was read), the finalizer
/// stays, the database is kept in order, and changes of the entry by hand are reported.
pub fn plan_rejected(
    object: &ObjectId,
    reports: Vec<PartReport>,
    observed: Option<&ObservedTenant>,
    installation: &Installation,
) -> Plan<TenantStep> {
    let mut plan = Plan::nothing(reports);
    let Some(observed) = observed else { return plan };
    if !observed.finalizer {
        plan.steps.push(ObjectStep::AddFinalizer.into());
    }
    let ownership = judge(object, observed, installation).ok();
    plan.reports
        .extend(ownership.and_then(|ownership| plan_upkeep(ownership, observed, installation, &mut plan.steps)));
    plan.reports.extend(judge_unspecified_entry(observed));
    plan
}

/// Whether there is something to observe for a Tenant with an invalid spec.
pub const fn was_provisioned(recorded: &Recorded) -> bool {
    recorded.incarnation.is_some()
}

/// The report on the entry without a spec: that it is not the one that replicas proved to serve. Its right content
/// follows from the spec alone, so it can't be written again.
fn judge_unspecified_entry(observed: &ObservedTenant) -> Option<PartReport> {
    let served = observed.recorded.served?;
    let what = match &observed.entry {
        Seen::Missing => "was deleted by hand",
        Seen::Ours(EntryView { entry: None, .. }) => "was damaged by hand",
        Seen::Ours(EntryView { entry: Some(entry), version, .. })
            if *version != served.version && Some(entry.generation) == served.generation =>
        {
            "was written again since it was last proved to be served, perhaps by hand"
        }
        Seen::Ours(_) | Seen::Foreign(_) | Seen::Unknown(_) => return None,
    };
    let note = format!(
        "the registry entry {what}; it can't be written again before the spec is valid; replicas keep \
         serving the last good one that they loaded"
    );
    Some(PartReport::new(Part::Published, PartState::Refused(ErrorClass::Invalid), Reason::EntryChanged, note))
}
