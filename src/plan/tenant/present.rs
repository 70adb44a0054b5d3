//! The plan of a Tenant that should exist: finalizer, cell, database, keys, entry, proof.

use super::{
    acceptance::judge_acceptance,
    database::plan_database,
    entry::plan_entry,
    inputs::Inputs,
    keys::{issued, plan_keys},
    location::TenantData,
    origin::{Origin, judge_origin},
    ownership::{Ownership, judge},
    refusal::Refusal,
    suspend::plan_suspension,
    upkeep::plan_upkeep,
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{ident::Version, resolve::DesiredTenant},
    plan::{
        Plan,
        acks::judge_served,
        installation::Installation,
        observed::{EntryView, ObservedTenant},
        report::{PartReport, PartState},
        step::{ObjectStep, TenantStep},
    },
};

/// Seconds between two reads of replicas that have to be updated.
const FORMAT_POLL_SECONDS: i64 = 10;

/// Plans a Tenant that should exist.
pub fn plan_tenant(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    now: jiff::Timestamp,
) -> Plan<TenantStep> {
    let held = judge(&desired.object, observed, installation);
    let has_effects = has_effects(observed, &held);
    let inputs = Inputs { desired, observed, installation, now };
    let origin = judge_origin(held, inputs);
    let accepted = judge_acceptance(inputs, &origin);
    let mut plan = if accepted.allows_next_part() {
        plan_accepted(inputs, accepted, origin, has_effects)
    } else {
        plan_unaccepted(inputs, accepted, origin, has_effects)
    };
    if desired.suspend {
        plan_suspension(&mut plan, inputs);
    }
    plan
}

/// Whether there is, or was once, something of this Tenant outside the object.
fn has_effects(observed: &ObservedTenant, held: &Result<Ownership, Refusal>) -> bool {
    matches!(held, Ok(Ownership::Ours { .. } | Ownership::GivenUp(_)) | Err(Refusal::Lost(_)))
        || observed.entry.ours().is_some()
        || observed.keys.ours().is_some()
        || observed.recorded.incarnation.is_some()
}

/// The finalizer, where it is wanted and not there.
fn finalizer(observed: &ObservedTenant, wanted: bool) -> Vec<TenantStep> {
    if wanted && !observed.finalizer { vec![TenantStep::Object(ObjectStep::AddFinalizer)] } else { Vec::new() }
}

/// Changes nothing of what the spec asks for, and keeps in order what there is.
fn plan_unaccepted(
    inputs: Inputs<'_>,
    accepted: PartReport,
    origin: Result<Origin, PartReport>,
    has_effects: bool,
) -> Plan<TenantStep> {
    let Inputs { observed, installation, .. } = inputs;
    // Put back where somebody took it off while there is something of ours.
    let mut steps = finalizer(observed, has_effects);
    let database = match origin {
        Ok(Origin::Held(ownership)) => plan_upkeep(ownership, observed, installation, &mut steps),
        Ok(Origin::TakenOver(_)) | Err(_) => None,
    };
    let database = database.unwrap_or_else(|| pending(Part::DatabaseReady));
    let reports = [accepted, database].into_iter().chain(standing_tail(observed)).collect();
    Plan { steps, reports, awaits: None, wake_at: None }
}

fn plan_accepted(
    inputs: Inputs<'_>,
    accepted: PartReport,
    origin: Result<Origin, PartReport>,
    has_effects: bool,
) -> Plan<TenantStep> {
    let observed = inputs.observed;
    let mut steps = Vec::new();
    let database = plan_database(inputs, origin, &mut steps);
    let mut reports = vec![accepted, database.report];
    let Some(data) = database.data else {
        reports.extend(standing_tail(observed));
        let wake_at = (!steps.is_empty()).then_some(inputs.now);
        let steps = finalizer(observed, has_effects).into_iter().chain(steps).collect();
        return Plan { steps, reports, awaits: None, wake_at };
    };
    // Before the first effect outside the object.
    steps.splice(0..0, finalizer(observed, true));
    let keys = plan_keys(inputs, &data, &mut steps);
    reports.push(keys.report);
    let Some(keyring) = keys.keyring else {
        reports.extend([pending(Part::Published), pending(Part::Served)]);
        return Plan { steps, reports, awaits: None, wake_at: None };
    };
    let (published, version) = plan_entry(inputs, &data, &keyring, &mut steps);
    if !published.allows_next_part() {
        let poll = (published.reason == Reason::WaitingForReplicas).then(|| next_poll(inputs.now));
        reports.extend([published, pending(Part::Served)]);
        let wake_at = keys.wake_at.into_iter().chain(poll).min();
        return Plan { steps, reports, awaits: None, wake_at };
    }
    reports.push(published);
    let (served, awaits) = judge_spec_served(inputs, &data, version);
    reports.push(served);
    Plan { steps, reports, awaits: awaits.or(keys.awaits), wake_at: keys.wake_at }
}

/// When the replicas are read again which don't read the entry's format: no acknowledgement says that they were updated.
fn next_poll(now: jiff::Timestamp) -> jiff::Timestamp {
    now.saturating_add(jiff::SignedDuration::from_secs(FORMAT_POLL_SECONDS)).unwrap_or(now)
}

/// `Served` of this generation of the spec: once proved, it holds while keys rotate or a damaged entry is repaired,
/// which writes the entry without changing what the user asked for.
fn judge_spec_served(inputs: Inputs<'_>, data: &TenantData, version: Option<Version>) -> (PartReport, Option<Version>) {
    let Inputs { desired, observed, .. } = inputs;
    let recorded = observed.recorded.served;
    let proved = recorded.map(|proof| proof.version);
    let (report, awaits) = judge_served(version, Some(data.incarnation), proved, &observed.replicas);
    match recorded {
        Some(proof) if report.reason == Reason::WaitingForReplicas && proof.generation == Some(desired.generation) => {
            (judge_served(Some(proof.version), None, Some(proof.version), &observed.replicas).0, awaits)
        }
        Some(_) | None => (report, awaits),
    }
}

/// What a reconcile that must not change anything can still say about the later parts.
fn standing_tail(observed: &ObservedTenant) -> [PartReport; 3] {
    let keys = observed
        .readable_keyring()
        .map_or_else(|| pending(Part::SigningKeysReady), |keyring| issued(keyring, PartState::Ready));
    let (published, served) = match observed.entry.ours() {
        Some(EntryView { entry: Some(entry), version, .. }) => (
            PartReport::new(
                Part::Published,
                PartState::Waiting,
                Reason::Pending,
                "the registry holds an earlier state of the spec",
            ),
            judge_served(
                Some(*version),
                Some(entry.incarnation),
                observed.recorded.served.map(|proof| proof.version),
                &observed.replicas,
            )
            .0,
        ),
        Some(EntryView { entry: None, .. }) | None => (pending(Part::Published), pending(Part::Served)),
    };
    [keys, published, served]
}

fn pending(part: Part) -> PartReport {
    PartReport::new(part, PartState::Waiting, Reason::Pending, "an earlier part has to be ready first")
}
