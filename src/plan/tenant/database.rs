//! The database of a Tenant that should exist: a new one, one that is taken over, or its own, which is kept in order.

use super::{
    inputs::Inputs,
    keys::first_mark,
    location::{TenantData, provisioned_note},
    loss::lost_incarnation,
    origin::Origin,
    ownership::Ownership,
    schema::resolve_target,
    upkeep::{RepairPlan, plan_repair},
};
use crate::{
    api::{ConditionType as Part, Notice, NoticeKind, Reason},
    domain::{class::ErrorClass, ident::Incarnation, migrations::transactional_version},
    plan::{
        drift::Finding,
        observed::{CellOffer, LedgerRow, ObservedTenant, RowState},
        report::{PartReport, PartState},
        step::{Adoption, CellStep, DatabaseStep, ObjectStep, Provision, Remains, TenantStep},
    },
};

/// What the plan says about the database.
pub(super) struct DatabasePlan {
    /// The state of the database.
    pub report: PartReport,
    /// Where the data is or will be; `None` if later parts must wait.
    pub data: Option<TenantData>,
}

impl DatabasePlan {
    fn stop(report: PartReport) -> Self {
        Self { report, data: None }
    }

    fn provisioned(data: TenantData) -> Self {
        let note = provisioned_note(&data.location.schema);
        Self { report: report(PartState::InProgress, Reason::Provisioned, note), data: Some(data) }
    }
}

fn report(state: PartState, reason: Reason, note: impl Into<String>) -> PartReport {
    PartReport::new(Part::DatabaseReady, state, reason, note)
}

/// Plans the database of an accepted Tenant.
pub(super) fn plan_database(
    inputs: Inputs<'_>,
    origin: Result<Origin, PartReport>,
    steps: &mut Vec<TenantStep>,
) -> DatabasePlan {
    match origin {
        Ok(Origin::Held(Ownership::Nothing { offer: Some(offer), replaces })) => {
            plan_new(inputs, offer, replaces, steps)
        }
        Ok(Origin::Held(Ownership::Nothing { offer: None, .. })) => {
            let state = PartState::Unread(ErrorClass::Transient);
            DatabasePlan::stop(report(state, Reason::DatabaseUnavailable, "the database offers no cell"))
        }
        Ok(Origin::Held(Ownership::Ours { row, drift })) => plan_own(inputs, row, drift, steps),
        Ok(Origin::Held(Ownership::GivenUp(remains))) => plan_set_aside(inputs, remains, steps),
        Ok(Origin::TakenOver(adoption)) => plan_adoption(inputs, *adoption, steps),
        Err(refusal) => DatabasePlan::stop(refusal),
    }
}

fn plan_new(
    inputs: Inputs<'_>,
    offer: CellOffer,
    replaces: Option<Incarnation>,
    steps: &mut Vec<TenantStep>,
) -> DatabasePlan {
    let Inputs { desired, observed, installation, .. } = inputs;
    let name = desired.tenant_id.database_name(&installation.instance.prefix);
    let provision = Provision {
        tenant_id: desired.tenant_id.clone(),
        incarnation: observed.fresh.incarnation,
        cell: offer.cell,
        schema: name.clone(),
        role: name,
        schema_version: transactional_version(0, resolve_target(installation, &observed.replicas)),
        keyring: first_mark(inputs, 1),
        replaces,
    };
    let data = TenantData::of_provision(&provision, installation);
    plan_cell(offer, observed, steps);
    steps.push(TenantStep::Database(DatabaseStep::Provision(provision)));
    steps.extend(lost_incarnation(observed).map(started_empty));
    DatabasePlan::provisioned(data)
}

fn plan_adoption(inputs: Inputs<'_>, adoption: Adoption, steps: &mut Vec<TenantStep>) -> DatabasePlan {
    let keyring = first_mark(inputs, adoption.keyring.version);
    let adoption = Adoption { keyring, ..adoption };
    let data = TenantData::of_adoption(&adoption, inputs.installation);
    plan_cell(CellOffer { cell: adoption.cell, exists: true }, inputs.observed, steps);
    steps.push(TenantStep::Database(DatabaseStep::Adopt(adoption)));
    DatabasePlan::provisioned(data)
}

/// The row is this Tenant's own.
fn plan_own(inputs: Inputs<'_>, row: LedgerRow, drift: Vec<Finding>, steps: &mut Vec<TenantStep>) -> DatabasePlan {
    let Inputs { desired, observed, installation, .. } = inputs;
    if !row.state.in_use() {
        let note = format!("the ledger says '{}' of this very Tenant, which is not being deleted", row.state.as_str());
        return DatabasePlan::stop(report(PartState::Refused(ErrorClass::Conflict), Reason::DataLost, note));
    }
    plan_cell(CellOffer { cell: row.cell, exists: true }, observed, steps);
    let RepairPlan { report, schema_version } = plan_repair(row.clone(), drift, observed, installation, steps);
    let data = TenantData::of_row(&row, installation, schema_version);
    if row.state == RowState::Suspended && !desired.suspend {
        steps.push(TenantStep::Database(DatabaseStep::ResumeAccess { row }));
    }
    DatabasePlan { report, data: Some(data) }
}

/// Puts what is left of a tenant out of the way that a person gave up.
fn plan_set_aside(inputs: Inputs<'_>, remains: Remains, steps: &mut Vec<TenantStep>) -> DatabasePlan {
    let tenant_id = inputs.desired.tenant_id.clone();
    let name = remains.row.as_ref().map(|row| row.schema.clone());
    let name = name.unwrap_or_else(|| tenant_id.database_name(&inputs.installation.instance.prefix));
    steps.push(TenantStep::Database(DatabaseStep::SetAside { tenant_id, name, remains }));
    let note = "what is left of the lost data is put out of the way";
    DatabasePlan::stop(report(PartState::Waiting, Reason::LossAccepted, note))
}

/// The event of a tenant that starts with nothing, after a user accepted the loss of its data.
fn started_empty(lost: Incarnation) -> TenantStep {
    TenantStep::Object(ObjectStep::RecordEvent(Notice {
        kind: NoticeKind::Warning,
        reason: Reason::LossAccepted,
        note: format!("incarnation {lost} was given up; the tenant begins with nothing"),
    }))
}

fn plan_cell(offer: CellOffer, observed: &ObservedTenant, steps: &mut Vec<TenantStep>) {
    if !offer.exists || !observed.cell_entry {
        steps.push(TenantStep::Cell(CellStep::Create { cell: offer.cell, password: observed.fresh.password.clone() }));
    }
}
