//! The plan of a Tenant that should exist: finalizer, cell, database, keys, entry, proof.

use super::{
    Plan,
    acceptance::judge_acceptance,
    acks::judge_served,
    database::plan_database,
    entry::plan_entry,
    home::Home,
    inputs::Inputs,
    installation::Installation,
    keys::{issued, plan_keys},
    ledger::{Holding, judge},
    observed::{EntryView, ObservedTenant},
    origin::{Origin, judge_origin},
    refusal::Refusal,
    step::TenantStep,
    suspend::plan_suspension,
    upkeep::plan_upkeep,
    verdict::{Stand, Verdict},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{ident::Version, resolve::DesiredTenant},
};

/// Plans a Tenant that should exist.
pub fn plan_tenant(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    now: jiff::Timestamp,
) -> Plan<TenantStep> {
    let held = judge(&desired.object.uid, observed);
    let has_effects = has_effects(observed, &held);
    let inputs = Inputs { desired, observed, installation, now };
    let origin = judge_origin(held, inputs);
    let accepted = judge_acceptance(inputs, &origin);
    let mut plan = if accepted.lets_pass() {
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
fn has_effects(observed: &ObservedTenant, held: &Result<Holding, Refusal>) -> bool {
    matches!(held, Ok(Holding::Ours { .. } | Holding::GivenUp(_)) | Err(Refusal::Lost(_)))
        || observed.entry.ours().is_some()
        || observed.keys.ours().is_some()
        || observed.recorded.incarnation.is_some()
}

/// The finalizer, where it is wanted and not there.
fn finalizer(observed: &ObservedTenant, wanted: bool) -> Vec<TenantStep> {
    if wanted && !observed.finalizer { vec![TenantStep::AddFinalizer] } else { Vec::new() }
}

/// Changes nothing of what the spec asks for, and keeps in order what there is.
fn plan_unaccepted(
    inputs: Inputs<'_>,
    accepted: Verdict,
    origin: Result<Origin, Verdict>,
    has_effects: bool,
) -> Plan<TenantStep> {
    let Inputs { observed, installation, .. } = inputs;
    // Put back where somebody took it off while there is something of ours.
    let mut steps = finalizer(observed, has_effects);
    let database = match origin {
        Ok(Origin::Held(holding)) => plan_upkeep(holding, observed, installation, &mut steps),
        Ok(Origin::TakenOver(_)) | Err(_) => None,
    };
    let database = database.unwrap_or_else(|| pending(Part::DatabaseReady));
    let verdicts = [accepted, database].into_iter().chain(standing_tail(observed)).collect();
    Plan { steps, verdicts, awaits: None, wake_at: None }
}

fn plan_accepted(
    inputs: Inputs<'_>,
    accepted: Verdict,
    origin: Result<Origin, Verdict>,
    has_effects: bool,
) -> Plan<TenantStep> {
    let observed = inputs.observed;
    let mut steps = Vec::new();
    let database = plan_database(inputs, origin, &mut steps);
    let mut verdicts = vec![accepted, database.verdict];
    let Some(home) = database.home else {
        verdicts.extend(standing_tail(observed));
        let wake_at = (!steps.is_empty()).then_some(inputs.now);
        let steps = finalizer(observed, has_effects).into_iter().chain(steps).collect();
        return Plan { steps, verdicts, awaits: None, wake_at };
    };
    // Before the first effect outside the object.
    steps.splice(0..0, finalizer(observed, true));
    let keys = plan_keys(inputs, &home, &mut steps);
    verdicts.push(keys.verdict);
    let Some(ring) = keys.ring else {
        verdicts.extend([pending(Part::Published), pending(Part::Served)]);
        return Plan { steps, verdicts, awaits: None, wake_at: None };
    };
    let (published, version) = plan_entry(inputs, &home, &ring, &mut steps);
    if !published.lets_pass() {
        verdicts.extend([published, pending(Part::Served)]);
        return Plan { steps, verdicts, awaits: None, wake_at: keys.wake_at };
    }
    verdicts.push(published);
    let (served, awaits) = judge_spec_served(inputs, &home, version);
    verdicts.push(served);
    Plan { steps, verdicts, awaits: awaits.or(keys.awaits), wake_at: keys.wake_at }
}

/// `Served` of this generation of the spec: once proved, it holds while keys rotate or a damaged entry is made right
/// again, which writes an entry anew without changing what the user asked for.
fn judge_spec_served(inputs: Inputs<'_>, home: &Home, version: Option<Version>) -> (Verdict, Option<Version>) {
    let Inputs { desired, observed, .. } = inputs;
    let recorded = observed.recorded.served;
    let proved = recorded.map(|proof| proof.version);
    let (verdict, awaits) = judge_served(version, Some(home.incarnation), proved, &observed.replicas);
    match recorded {
        Some(proof) if verdict.reason == Reason::WaitingForReplicas && proof.generation == Some(desired.generation) => {
            (judge_served(Some(proof.version), None, Some(proof.version), &observed.replicas).0, awaits)
        }
        Some(_) | None => (verdict, awaits),
    }
}

/// What a pass that must not change anything can still say about the later parts.
fn standing_tail(observed: &ObservedTenant) -> [Verdict; 3] {
    let keys =
        observed.readable_keyring().map_or_else(|| pending(Part::SigningKeysReady), |ring| issued(ring, Stand::Holds));
    let (published, served) = match observed.entry.ours() {
        Some(EntryView { entry: Some(entry), version, .. }) => (
            Verdict::new(
                Part::Published,
                Stand::Waits,
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

fn pending(part: Part) -> Verdict {
    Verdict::new(part, Stand::Waits, Reason::Pending, "an earlier part has to be ready first")
}
