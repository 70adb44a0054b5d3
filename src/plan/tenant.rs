//! The plan of a Tenant that should exist: finalizer, cell, database, keys, entry, proof.

use super::{
    Plan,
    acks::judge_served,
    adopt::judge_adoption,
    entry::plan_entry,
    home::{TenantData, provisioned_note},
    installation::Installation,
    keys::{first_mark, issued, plan_keys},
    ledger::{Holding, judge},
    loss::lost_incarnation,
    observed::{CellOffer, EntryView, KeysView, ObservedTenant, RowState, Seen},
    schema::resolve_target,
    step::{Adoption, Provision, TenantStep},
    suspend::plan_suspension,
    takeover::judge_takeover,
    unplaced::Unplaced,
    upkeep::{plan_repair, plan_upkeep},
    verdict::{Stand, Verdict, unseen_reason},
};
use crate::{
    api::{ConditionType as Part, Notice, NoticeKind, Reason},
    domain::{
        class::ErrorClass,
        ident::{Incarnation, Uid, Version},
        location::DataLocation,
        migrations::transactional_version,
        resolve::{AgentLookup, DesiredTenant},
    },
};

/// Plans a Tenant that should exist.
pub fn plan_tenant(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    now: jiff::Timestamp,
) -> Plan<TenantStep> {
    let mut plan = plan_parts(desired, observed, installation, now);
    if desired.suspend {
        plan_suspension(&mut plan, &desired.object.uid, observed, installation, now);
    }
    plan
}

fn plan_parts(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    now: jiff::Timestamp,
) -> Plan<TenantStep> {
    let holding = judge_adoption(judge(&desired.object.uid, observed), desired, observed, installation);
    let holding = judge_takeover(holding, desired, observed, installation);
    let accepted = judge_acceptance(desired, observed, &holding);
    // Before the first effect outside the object; and again where somebody took it off while there is something of ours.
    let has_effects = has_effects(observed, &holding);
    let finalizer = |wanted: bool| if wanted && !observed.finalizer { vec![TenantStep::AddFinalizer] } else { vec![] };
    if !accepted.lets_pass() {
        let mut steps = finalizer(has_effects);
        let database =
            plan_upkeep(holding, observed, installation, &mut steps).unwrap_or_else(|| pending(Part::DatabaseReady));
        let verdicts = [accepted, database].into_iter().chain(standing_tail(observed)).collect();
        return Plan { steps, verdicts, awaits: None, wake_at: None };
    }
    let mut steps = Vec::new();
    let (database, home) = plan_database(desired, observed, installation, holding, now, &mut steps);
    let mut verdicts = vec![accepted, database];
    let Some(home) = home else {
        verdicts.extend(standing_tail(observed));
        let wake_at = (!steps.is_empty()).then_some(now);
        let steps = finalizer(has_effects).into_iter().chain(steps).collect();
        return Plan { steps, verdicts, awaits: None, wake_at };
    };
    steps.splice(0..0, finalizer(true));
    let keys = plan_keys(desired, observed, installation, &home, now, &mut steps);
    verdicts.push(keys.verdict);
    let Some(ring) = keys.ring else {
        verdicts.extend([pending(Part::Published), pending(Part::Served)]);
        return Plan { steps, verdicts, awaits: None, wake_at: None };
    };
    let (published, version) = plan_entry(desired, observed, installation, &home, &ring, now, &mut steps);
    if !published.lets_pass() {
        verdicts.extend([published, pending(Part::Served)]);
        return Plan { steps, verdicts, awaits: None, wake_at: keys.wake_at };
    }
    verdicts.push(published);
    let (served, awaits) = judge_spec_served(desired, observed, &home, version);
    verdicts.push(served);
    Plan { steps, verdicts, awaits: awaits.or(keys.awaits), wake_at: keys.wake_at }
}

/// `Served` of this generation of the spec: once proved, it holds while keys rotate or a damaged entry is made right
/// again, which writes an entry anew without changing what the user asked for.
fn judge_spec_served(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    home: &TenantData,
    version: Option<Version>,
) -> (Verdict, Option<Version>) {
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

/// Whether there is, or was once, something of this Tenant outside the object.
fn has_effects(observed: &ObservedTenant, holding: &Holding) -> bool {
    matches!(holding, Holding::Ours { .. } | Holding::Lost(_) | Holding::GivenUp(_))
        || matches!(observed.entry, Seen::Ours(_))
        || matches!(observed.keys, Seen::Ours(_))
        || observed.recorded.incarnation.is_some()
}

fn judge_acceptance(desired: &DesiredTenant, observed: &ObservedTenant, holding: &Holding) -> Verdict {
    let refuse = |reason, note: String, class| Verdict::new(Part::Accepted, Stand::Refused(class), reason, note);
    // The database may be out of reach, and the entry deleted by hand: then what we recorded says whose the id is.
    let owned = matches!(holding, Holding::Ours { .. })
        || matches!(observed.entry, Seen::Ours(_))
        || observed.recorded.incarnation.is_some();
    if let (Some(rival), false) = (&observed.rival, owned) {
        let note =
            format!("tenant id '{}' is claimed by the older Tenant {rival} (UID {})", desired.tenant_id, rival.uid);
        return refuse(Reason::Conflict, note, ErrorClass::Conflict);
    }
    match holding {
        Holding::Foreign(note) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Conflict),
        Holding::Awaited(note) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Waiting),
        Holding::Retained(note) => return refuse(Reason::Retained, note.clone(), ErrorClass::Conflict),
        Holding::Unadoptable(note) => return refuse(Reason::AdoptionRefused, note.clone(), ErrorClass::Conflict),
        Holding::Unplaced(unplaced @ Unplaced::Taken { .. }) => {
            return refuse(unplaced.reason(), unplaced.render(), ErrorClass::Conflict);
        }
        Holding::Nothing { .. }
        | Holding::Adoptable(_)
        | Holding::Ours { .. }
        | Holding::Lost(_)
        | Holding::GivenUp(_)
        | Holding::Changed(_)
        | Holding::Unplaced(_)
        | Holding::Unknown(_) => {}
    }
    match (&observed.entry, holding) {
        (Seen::Foreign(note), _) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Conflict),
        // The entry may give the id to somebody else, or say that there was data: nothing is made before it is read.
        (Seen::Unknown(unseen), Holding::Nothing { .. } | Holding::Adoptable(_)) => {
            let stand = Stand::Unseen(unseen.class);
            return Verdict::new(Part::Accepted, stand, Reason::Retrying, unseen.note.clone());
        }
        (Seen::Unknown(_) | Seen::Missing | Seen::Ours(_), _) => {}
    }
    let missing: Vec<&str> = desired
        .agents
        .iter()
        .filter(|(name, _)| match observed.agents.get(*name) {
            None | Some(AgentLookup::Missing) => true,
            Some(AgentLookup::Leaving(uid)) => !runs_already(observed, uid),
            Some(AgentLookup::Unpublished(_) | AgentLookup::Published(_)) => false,
        })
        .map(|(_, agent)| agent.config.as_str())
        .collect();
    if !missing.is_empty() {
        let note = format!(
            "AgentConfig '{}' does not exist in namespace '{}', or is being deleted",
            missing.join("', '"),
            desired.object.namespace
        );
        return refuse(Reason::AgentConfigMissing, note, ErrorClass::Waiting);
    }
    Verdict::new(Part::Accepted, Stand::Holds, Reason::Accepted, "the spec is valid")
}

/// Whether the registry lets this tenant run an AgentConfig.
fn runs_already(observed: &ObservedTenant, config: &Uid) -> bool {
    match &observed.entry {
        Seen::Ours(EntryView { entry: Some(entry), .. }) => entry.agents.values().any(|a| a.config_uid == *config),
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => false,
    }
}

/// What a pass that must not change anything can still say about the later parts.
fn standing_tail(observed: &ObservedTenant) -> [Verdict; 3] {
    let keys = match &observed.keys {
        Seen::Ours(KeysView { ring: Ok(ring), .. }) => issued(ring, Stand::Holds),
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => pending(Part::SigningKeysReady),
    };
    let (published, served) = match &observed.entry {
        Seen::Ours(EntryView { entry: Some(entry), version, .. }) => (
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
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => {
            (pending(Part::Published), pending(Part::Served))
        }
    };
    [keys, published, served]
}

fn pending(part: Part) -> Verdict {
    Verdict::new(part, Stand::Waits, Reason::Pending, "an earlier part has to be ready first")
}

fn plan_database(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    holding: Holding,
    now: jiff::Timestamp,
    steps: &mut Vec<TenantStep>,
) -> (Verdict, Option<TenantData>) {
    let verdict = |stand, reason, note: String| Verdict::new(Part::DatabaseReady, stand, reason, note);
    match holding {
        Holding::Nothing { offer: Some(offer), replaces } => {
            plan_cell(offer, observed, steps);
            let name = desired.tenant_id.database_name(&installation.home.prefix);
            let provision = Provision {
                tenant_id: desired.tenant_id.clone(),
                incarnation: observed.fresh.incarnation,
                cell: offer.cell,
                schema: name.clone(),
                role: name,
                schema_version: transactional_version(0, resolve_target(installation, &observed.replicas)),
                ring: first_mark(desired, observed, 1, now),
                replaces,
            };
            let home = TenantData {
                incarnation: provision.incarnation,
                location: DataLocation {
                    instance: installation.home.name.clone(),
                    cell: provision.cell,
                    schema: provision.schema.clone(),
                    role: provision.role.clone(),
                    schema_version: provision.schema_version,
                },
                ring: provision.ring.clone(),
                row: None,
            };
            let note = provisioned_note(&provision.schema);
            steps.push(TenantStep::Provision(provision));
            steps.extend(lost_incarnation(observed).map(begun_anew));
            (verdict(Stand::Doing, Reason::Provisioned, note), Some(home))
        }
        Holding::Adoptable(adoption) => {
            plan_cell(CellOffer { cell: adoption.cell, exists: true }, observed, steps);
            let ring = first_mark(desired, observed, adoption.ring.version, now);
            let adoption = Adoption { ring, ..*adoption };
            let home = TenantData {
                incarnation: adoption.incarnation,
                location: DataLocation {
                    instance: installation.home.name.clone(),
                    cell: adoption.cell,
                    schema: adoption.schema.clone(),
                    role: adoption.role.clone(),
                    schema_version: adoption.target_version,
                },
                ring: adoption.ring.clone(),
                row: None,
            };
            let note = provisioned_note(&adoption.schema);
            steps.push(TenantStep::Adopt(adoption));
            (verdict(Stand::Doing, Reason::Provisioned, note), Some(home))
        }
        Holding::Awaited(note) => (verdict(Stand::Refused(ErrorClass::Waiting), Reason::Conflict, note), None),
        Holding::Unadoptable(note) => {
            (verdict(Stand::Refused(ErrorClass::Conflict), Reason::AdoptionRefused, note), None)
        }
        Holding::GivenUp(remains) => {
            let note = "what is left of the lost data is put out of the way".to_owned();
            let name = remains.row.as_ref().map(|row| row.schema.clone());
            let name = name.unwrap_or_else(|| desired.tenant_id.database_name(&installation.home.prefix));
            steps.push(TenantStep::SetAside { tenant_id: desired.tenant_id.clone(), name, remains });
            (verdict(Stand::Waits, Reason::LossAccepted, note), None)
        }
        Holding::Nothing { offer: None, .. } => {
            let note = "the database offers no cell".to_owned();
            (verdict(Stand::Unseen(ErrorClass::Transient), Reason::DatabaseUnavailable, note), None)
        }
        Holding::Ours { row, .. } if !row.state.in_use() => {
            let note =
                format!("the ledger says '{}' of this very Tenant, which is not being deleted", row.state.as_str());
            (verdict(Stand::Refused(ErrorClass::Conflict), Reason::Lost, note), None)
        }
        Holding::Ours { row, drift } => {
            plan_cell(CellOffer { cell: row.cell, exists: true }, observed, steps);
            let resume = (row.state == RowState::Suspended && !desired.suspend).then(|| row.clone());
            let (verdict, version) = plan_repair(row.clone(), drift, observed, installation, steps);
            let home = TenantData::of_row(&row, installation, version);
            steps.extend(resume.map(|row| TenantStep::ResumeAccess { row }));
            (verdict, Some(home))
        }
        Holding::Lost(note) => (verdict(Stand::Refused(ErrorClass::Conflict), Reason::Lost, note), None),
        Holding::Unplaced(unplaced) => {
            (verdict(Stand::Refused(ErrorClass::Conflict), unplaced.reason(), unplaced.render()), None)
        }
        Holding::Changed(note) => (verdict(Stand::Refused(ErrorClass::Conflict), Reason::DatabaseChanged, note), None),
        Holding::Foreign(note) => (verdict(Stand::Refused(ErrorClass::Conflict), Reason::Conflict, note), None),
        Holding::Retained(note) => (verdict(Stand::Refused(ErrorClass::Conflict), Reason::Retained, note), None),
        Holding::Unknown(unseen) => {
            let reason = unseen_reason(unseen.class);
            (verdict(Stand::Unseen(unseen.class), reason, unseen.note), None)
        }
    }
}

/// Says that the tenant that a person gave up begins with nothing.
fn begun_anew(lost: Incarnation) -> TenantStep {
    TenantStep::RecordEvent(Notice {
        kind: NoticeKind::Warning,
        reason: Reason::LossAccepted,
        note: format!("incarnation {lost} was given up; the tenant begins with nothing"),
    })
}

fn plan_cell(offer: CellOffer, observed: &ObservedTenant, steps: &mut Vec<TenantStep>) {
    if !offer.exists || !observed.cell_entry {
        steps.push(TenantStep::CreateCell { cell: offer.cell, password: observed.fresh.password.clone() });
    }
}
