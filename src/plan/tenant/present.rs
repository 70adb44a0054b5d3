//! The plan of a Tenant that should exist: finalizer, cell, database, keys, entry, proof.

use super::{
    adopt::judge_adoption,
    entry::plan_entry,
    keys::{first_mark, issued, plan_keys},
    location::{TenantData, provisioned_note},
    loss::lost_incarnation,
    ownership::{Ownership, judge},
    schema::resolve_target,
    suspend::plan_suspension,
    takeover::judge_takeover,
    upkeep::{plan_repair, plan_upkeep},
};
use crate::plan::{
    Plan,
    acks::judge_served,
    installation::Installation,
    observed::{CellOffer, EntryView, KeysView, ObservedTenant, RowState, Seen, unplaced::Unplaced},
    report::{PartReport, PartState, read_error_reason},
    step::{Adoption, CellStep, DatabaseStep, ObjectStep, Provision, TenantStep},
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
    let ownership = judge_adoption(judge(&desired.object.uid, observed), desired, observed, installation);
    let ownership = judge_takeover(ownership, desired, observed, installation);
    let accepted = judge_acceptance(desired, observed, &ownership);
    // Before the first effect outside the object; and again where somebody took it off while there is something of ours.
    let has_effects = has_effects(observed, &ownership);
    let finalizer = |wanted: bool| {
        if wanted && !observed.finalizer { vec![TenantStep::Object(ObjectStep::AddFinalizer)] } else { vec![] }
    };
    if !accepted.allows_next_part() {
        let mut steps = finalizer(has_effects);
        let database =
            plan_upkeep(ownership, observed, installation, &mut steps).unwrap_or_else(|| pending(Part::DatabaseReady));
        let reports = [accepted, database].into_iter().chain(standing_tail(observed)).collect();
        return Plan { steps, reports, awaits: None, wake_at: None };
    }
    let mut steps = Vec::new();
    let (database, home) = plan_database(desired, observed, installation, ownership, now, &mut steps);
    let mut reports = vec![accepted, database];
    let Some(home) = home else {
        reports.extend(standing_tail(observed));
        let wake_at = (!steps.is_empty()).then_some(now);
        let steps = finalizer(has_effects).into_iter().chain(steps).collect();
        return Plan { steps, reports, awaits: None, wake_at };
    };
    steps.splice(0..0, finalizer(true));
    let keys = plan_keys(desired, observed, installation, &home, now, &mut steps);
    reports.push(keys.report);
    let Some(keyring) = keys.keyring else {
        reports.extend([pending(Part::Published), pending(Part::Served)]);
        return Plan { steps, reports, awaits: None, wake_at: None };
    };
    let (published, version) = plan_entry(desired, observed, installation, &home, &keyring, now, &mut steps);
    if !published.allows_next_part() {
        reports.extend([published, pending(Part::Served)]);
        return Plan { steps, reports, awaits: None, wake_at: keys.wake_at };
    }
    reports.push(published);
    let (served, awaits) = judge_spec_served(desired, observed, &home, version);
    reports.push(served);
    Plan { steps, reports, awaits: awaits.or(keys.awaits), wake_at: keys.wake_at }
}

/// `Served` of this generation of the spec: once proved, it holds while keys rotate or a damaged entry is made right
/// again, which writes an entry anew without changing what the user asked for.
fn judge_spec_served(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    home: &TenantData,
    version: Option<Version>,
) -> (PartReport, Option<Version>) {
    let recorded = observed.recorded.served;
    let proved = recorded.map(|proof| proof.version);
    let (report, awaits) = judge_served(version, Some(home.incarnation), proved, &observed.replicas);
    match recorded {
        Some(proof) if report.reason == Reason::WaitingForReplicas && proof.generation == Some(desired.generation) => {
            (judge_served(Some(proof.version), None, Some(proof.version), &observed.replicas).0, awaits)
        }
        Some(_) | None => (report, awaits),
    }
}

/// Whether there is, or was once, something of this Tenant outside the object.
fn has_effects(observed: &ObservedTenant, ownership: &Ownership) -> bool {
    matches!(ownership, Ownership::Ours { .. } | Ownership::Lost(_) | Ownership::GivenUp(_))
        || matches!(observed.entry, Seen::Ours(_))
        || matches!(observed.keys, Seen::Ours(_))
        || observed.recorded.incarnation.is_some()
}

fn judge_acceptance(desired: &DesiredTenant, observed: &ObservedTenant, ownership: &Ownership) -> PartReport {
    let refuse = |reason, note: String, class| PartReport::new(Part::Accepted, PartState::Refused(class), reason, note);
    // The database may be out of reach, and the entry deleted by hand: then what we recorded says whose the id is.
    let owned = matches!(ownership, Ownership::Ours { .. })
        || matches!(observed.entry, Seen::Ours(_))
        || observed.recorded.incarnation.is_some();
    if let (Some(rival), false) = (&observed.rival, owned) {
        let note =
            format!("tenant id '{}' is claimed by the older Tenant {rival} (UID {})", desired.tenant_id, rival.uid);
        return refuse(Reason::Conflict, note, ErrorClass::Conflict);
    }
    match ownership {
        Ownership::Foreign(note) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Conflict),
        Ownership::Awaited(note) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Waiting),
        Ownership::Retained(note) => return refuse(Reason::Retained, note.clone(), ErrorClass::Conflict),
        Ownership::Unadoptable(note) => return refuse(Reason::AdoptionRefused, note.clone(), ErrorClass::Conflict),
        Ownership::Unplaced(unplaced @ Unplaced::Taken { .. }) => {
            return refuse(unplaced.reason(), unplaced.render(), ErrorClass::Conflict);
        }
        Ownership::Nothing { .. }
        | Ownership::Adoptable(_)
        | Ownership::Ours { .. }
        | Ownership::Lost(_)
        | Ownership::GivenUp(_)
        | Ownership::Changed(_)
        | Ownership::Unplaced(_)
        | Ownership::Unknown(_) => {}
    }
    match (&observed.entry, ownership) {
        (Seen::Foreign(note), _) => return refuse(Reason::Conflict, note.clone(), ErrorClass::Conflict),
        // The entry may give the id to somebody else, or say that there was data: nothing is made before it is read.
        (Seen::Unknown(read_error), Ownership::Nothing { .. } | Ownership::Adoptable(_)) => {
            let state = PartState::Unread(read_error.class);
            return PartReport::new(Part::Accepted, state, Reason::Retrying, read_error.note.clone());
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
    PartReport::new(Part::Accepted, PartState::Ready, Reason::Accepted, "the spec is valid")
}

/// Whether the registry lets this tenant run an AgentConfig.
fn runs_already(observed: &ObservedTenant, config: &Uid) -> bool {
    match &observed.entry {
        Seen::Ours(EntryView { entry: Some(entry), .. }) => entry.agents.values().any(|a| a.config_uid == *config),
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => false,
    }
}

/// What a pass that must not change anything can still say about the later parts.
fn standing_tail(observed: &ObservedTenant) -> [PartReport; 3] {
    let keys = match &observed.keys {
        Seen::Ours(KeysView { keyring: Ok(keyring), .. }) => issued(keyring, PartState::Ready),
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => pending(Part::SigningKeysReady),
    };
    let (published, served) = match &observed.entry {
        Seen::Ours(EntryView { entry: Some(entry), version, .. }) => (
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
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => {
            (pending(Part::Published), pending(Part::Served))
        }
    };
    [keys, published, served]
}

fn pending(part: Part) -> PartReport {
    PartReport::new(part, PartState::Waiting, Reason::Pending, "an earlier part has to be ready first")
}

fn plan_database(
    desired: &DesiredTenant,
    observed: &ObservedTenant,
    installation: &Installation,
    ownership: Ownership,
    now: jiff::Timestamp,
    steps: &mut Vec<TenantStep>,
) -> (PartReport, Option<TenantData>) {
    let report = |state, reason, note: String| PartReport::new(Part::DatabaseReady, state, reason, note);
    match ownership {
        Ownership::Nothing { offer: Some(offer), replaces } => {
            plan_cell(offer, observed, steps);
            let name = desired.tenant_id.database_name(&installation.home.prefix);
            let provision = Provision {
                tenant_id: desired.tenant_id.clone(),
                incarnation: observed.fresh.incarnation,
                cell: offer.cell,
                schema: name.clone(),
                role: name,
                schema_version: transactional_version(0, resolve_target(installation, &observed.replicas)),
                keyring: first_mark(desired, observed, 1, now),
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
                keyring: provision.keyring.clone(),
                row: None,
            };
            let note = provisioned_note(&provision.schema);
            steps.push(DatabaseStep::Provision(provision).into());
            steps.extend(lost_incarnation(observed).map(begun_anew));
            (report(PartState::InProgress, Reason::Provisioned, note), Some(home))
        }
        Ownership::Adoptable(adoption) => {
            plan_cell(CellOffer { cell: adoption.cell, exists: true }, observed, steps);
            let keyring = first_mark(desired, observed, adoption.keyring.version, now);
            let adoption = Adoption { keyring, ..*adoption };
            let home = TenantData {
                incarnation: adoption.incarnation,
                location: DataLocation {
                    instance: installation.home.name.clone(),
                    cell: adoption.cell,
                    schema: adoption.schema.clone(),
                    role: adoption.role.clone(),
                    schema_version: adoption.target_version,
                },
                keyring: adoption.keyring.clone(),
                row: None,
            };
            let note = provisioned_note(&adoption.schema);
            steps.push(DatabaseStep::Adopt(adoption).into());
            (report(PartState::InProgress, Reason::Provisioned, note), Some(home))
        }
        Ownership::Awaited(note) => (report(PartState::Refused(ErrorClass::Waiting), Reason::Conflict, note), None),
        Ownership::Unadoptable(note) => {
            (report(PartState::Refused(ErrorClass::Conflict), Reason::AdoptionRefused, note), None)
        }
        Ownership::GivenUp(remains) => {
            let note = "what is left of the lost data is put out of the way".to_owned();
            let name = remains.row.as_ref().map(|row| row.schema.clone());
            let name = name.unwrap_or_else(|| desired.tenant_id.database_name(&installation.home.prefix));
            steps.push(DatabaseStep::SetAside { tenant_id: desired.tenant_id.clone(), name, remains }.into());
            (report(PartState::Waiting, Reason::LossAccepted, note), None)
        }
        Ownership::Nothing { offer: None, .. } => {
            let note = "the database offers no cell".to_owned();
            (report(PartState::Unread(ErrorClass::Transient), Reason::DatabaseUnavailable, note), None)
        }
        Ownership::Ours { row, .. } if !row.state.in_use() => {
            let note =
                format!("the ledger says '{}' of this very Tenant, which is not being deleted", row.state.as_str());
            (report(PartState::Refused(ErrorClass::Conflict), Reason::Lost, note), None)
        }
        Ownership::Ours { row, drift } => {
            plan_cell(CellOffer { cell: row.cell, exists: true }, observed, steps);
            let resume = (row.state == RowState::Suspended && !desired.suspend).then(|| row.clone());
            let (report, version) = plan_repair(row.clone(), drift, observed, installation, steps);
            let home = TenantData::of_row(&row, installation, version);
            steps.extend(resume.map(|row| TenantStep::Database(DatabaseStep::ResumeAccess { row })));
            (report, Some(home))
        }
        Ownership::Lost(note) => (report(PartState::Refused(ErrorClass::Conflict), Reason::Lost, note), None),
        Ownership::Unplaced(unplaced) => {
            (report(PartState::Refused(ErrorClass::Conflict), unplaced.reason(), unplaced.render()), None)
        }
        Ownership::Changed(note) => {
            (report(PartState::Refused(ErrorClass::Conflict), Reason::DatabaseChanged, note), None)
        }
        Ownership::Foreign(note) => (report(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note), None),
        Ownership::Retained(note) => (report(PartState::Refused(ErrorClass::Conflict), Reason::Retained, note), None),
        Ownership::Unknown(read_error) => {
            let reason = read_error_reason(read_error.class);
            (report(PartState::Unread(read_error.class), reason, read_error.note), None)
        }
    }
}

/// Says that the tenant that a person gave up begins with nothing.
fn begun_anew(lost: Incarnation) -> TenantStep {
    TenantStep::Object(ObjectStep::RecordEvent(Notice {
        kind: NoticeKind::Warning,
        reason: Reason::LossAccepted,
        note: format!("incarnation {lost} was given up; the tenant begins with nothing"),
    }))
}

fn plan_cell(offer: CellOffer, observed: &ObservedTenant, steps: &mut Vec<TenantStep>) {
    if !offer.exists || !observed.cell_entry {
        steps.push(CellStep::Create { cell: offer.cell, password: observed.fresh.password.clone() }.into());
    }
}
