//! What is kept in order of a tenant that was provisioned, also where its spec can't be had: the database needs nothing of
//! the spec; the registry entry does, so that what happened to it can only be said.

use super::{
    Plan,
    drift::{Finding, render_remedies},
    home::provisioned_note,
    installation::Installation,
    ledger::{Holding, judge},
    observed::{EntryView, LedgerRow, ObservedTenant, Recorded, Seen},
    schema::judge_tables,
    step::TenantStep,
    verdict::{Stand, Verdict},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{class::ErrorClass, ident::Uid},
};

/// What is planned for the database of a tenant in use.
pub(super) struct RepairPlan {
    /// How the database stands.
    pub verdict: Verdict,
    /// The version that its tables have once the steps are done.
    pub schema_version: i32,
}

/// Puts right what the operator's rights are enough for, brings the tables on where it is their turn, and says what a
/// person has to do about the rest. The tenant is served meanwhile.
pub(super) fn plan_repair(
    row: LedgerRow,
    drift: Vec<Finding>,
    observed: &ObservedTenant,
    installation: &Installation,
    steps: &mut Vec<TenantStep>,
) -> RepairPlan {
    let verdict = |stand, reason, note: String| Verdict::new(Part::DatabaseReady, stand, reason, note);
    let note = provisioned_note(&row.schema);
    let (mendable, rest): (Vec<Finding>, Vec<Finding>) = drift.into_iter().partition(|finding| finding.mendable);
    let drifts = |list: Vec<Finding>| list.into_iter().map(|finding| finding.drift).collect::<Vec<_>>();
    let (found, rest) = (drifts(mendable), drifts(rest));
    let told = (!rest.is_empty()).then(|| render_remedies(&rest, &row, &observed.database));
    let mut tables = judge_tables(&row, observed, installation);
    let (schema_version, blocked) = (tables.version(&row), tables.blocked.take());
    let stand = if found.is_empty() && tables.due.is_empty() { Stand::Holds } else { Stand::Doing };
    if !found.is_empty() {
        steps.push(TenantStep::RepairDatabase { row, found });
    }
    steps.extend(tables.into_steps());
    let verdict = match (told, blocked) {
        (Some(told), _) => verdict(Stand::Refused(ErrorClass::Denied), Reason::DriftNotRepairable, told),
        (None, Some((reason, told))) => verdict(Stand::Refused(ErrorClass::Conflict), reason, told),
        (None, None) => verdict(stand, Reason::Provisioned, note),
    };
    RepairPlan { verdict, schema_version }
}

/// Keeps the database of a tenant in order that is not to be changed otherwise; nothing can be said of one that is not in
/// use.
pub(super) fn plan_upkeep(
    holding: Holding,
    observed: &ObservedTenant,
    installation: &Installation,
    steps: &mut Vec<TenantStep>,
) -> Option<Verdict> {
    match holding {
        Holding::Ours { row, drift } if row.state.in_use() => {
            Some(plan_repair(row, drift, observed, installation, steps).verdict)
        }
        Holding::Ours { .. } | Holding::Nothing { .. } | Holding::GivenUp(_) => None,
    }
}

/// Plans a Tenant whose spec can't be had. Where something was made for it (then the world was looked at), the finalizer
/// stays, the database is kept in order, and what somebody did to the entry is said.
pub fn plan_rejected(
    uid: &Uid,
    verdicts: Vec<Verdict>,
    observed: Option<&ObservedTenant>,
    installation: &Installation,
) -> Plan<TenantStep> {
    let mut plan = Plan::nothing(verdicts);
    let Some(observed) = observed else { return plan };
    if !observed.finalizer {
        plan.steps.push(TenantStep::AddFinalizer);
    }
    let holding = judge(uid, observed).ok();
    plan.verdicts.extend(holding.and_then(|holding| plan_upkeep(holding, observed, installation, &mut plan.steps)));
    plan.verdicts.extend(judge_unspecified_entry(observed));
    plan
}

/// Whether there is something to look at for a Tenant whose spec can't be had.
pub const fn was_provisioned(recorded: &Recorded) -> bool {
    recorded.incarnation.is_some()
}

/// What can be said of the entry without a spec: that it is not the one that replicas proved to serve. What it should say
/// follows from the spec alone, so it can't be written again.
fn judge_unspecified_entry(observed: &ObservedTenant) -> Option<Verdict> {
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
        "the registry entry {what}; it can't be made right before the spec is valid, from which it follows; replicas keep \
         serving the last good one that they loaded"
    );
    Some(Verdict::new(Part::Published, Stand::Refused(ErrorClass::Invalid), Reason::EntryChanged, note))
}
