//! Status of a Tenant.

use super::{
    conditions::{Sources, find, part_of_object, project, shorten},
    facts::TenantFacts,
    keys::{notice_of_keyring, project_keys},
};
use crate::{
    api::{
        ConditionType as Part, DeletionPolicy, Notice, NoticeKind, Reason, TenantDatabaseStatus, TenantServedStatus,
        TenantStatus,
    },
    domain::{
        class::ErrorClass,
        ident::{Incarnation, Uid},
        migrations::Track,
        time::whole_seconds,
    },
    plan::{
        acks::{Proof, prove_served},
        drift::render_list,
        report::{PartReport, PartState},
        step::{DatabaseStep, EntryStep, Execution, KeysStep, ObjectStep, TenantStep},
        tenant::{loss::kept_name, ownership::database_id},
    },
};
use jiff::Timestamp;

const PARTS: [Part; 5] = [Part::Accepted, Part::DatabaseReady, Part::SigningKeysReady, Part::Published, Part::Served];

/// Computes the status of a Tenant and the events of this reconcile.
pub fn project_tenant(facts: &TenantFacts<'_>, previous: &TenantStatus, now: Timestamp) -> (TenantStatus, Vec<Notice>) {
    if stays_as_it_was(facts, previous) {
        return (previous.clone(), Vec::new());
    }
    let sources = Sources {
        parts: &PARTS,
        reports: &facts.plan.reports,
        failed: facts.execution.failed.as_ref().map(|(step, failure)| (part_of(step), failure)),
        previous: &previous.conditions,
        generation: facts.generation,
        deleting: facts.deleting,
    };
    let (conditions, mut notices) = project(&sources, now);
    notices.extend(project_deeds(facts.execution));
    let status = TenantStatus {
        observed_generation: Some(facts.generation),
        tenant_id: facts.tenant_id.map(ToString::to_string).or_else(|| previous.tenant_id.clone()),
        database: database(facts).or_else(|| previous.database.clone()),
        keys: project_keys(facts).or_else(|| previous.keys.clone()),
        served: served(facts, previous, now).or_else(|| previous.served.clone()),
        conditions,
    };
    (status, notices)
}

/// The events for what a reconcile did, independent of the status.
pub fn project_deeds(execution: &Execution<TenantStep>) -> Vec<Notice> {
    execution.done.iter().filter_map(|(step, _)| notice_of(step)).collect()
}

/// An outage of something shared is reported once, on that thing: what was ready stays shown as ready.
fn stays_as_it_was(facts: &TenantFacts<'_>, previous: &TenantStatus) -> bool {
    let was_ready = find(&previous.conditions, Part::Ready).is_some_and(|c| c.status == "True");
    let outage = |v: &PartReport| matches!(v.state, PartState::Unread(ErrorClass::Transient | ErrorClass::Denied));
    was_ready
        && !facts.deleting
        && find(&previous.conditions, Part::Paused).is_none()
        && previous.observed_generation == Some(facts.generation)
        && facts.plan.steps.iter().all(|step| *step == TenantStep::Object(ObjectStep::AddFinalizer))
        && facts.plan.reports.iter().any(outage)
        && facts.plan.reports.iter().all(|v| outage(v) || !matches!(v.state, PartState::Refused(_)))
}

/// The condition that shows a step's failure.
fn part_of(step: &TenantStep) -> Part {
    match step {
        TenantStep::Object(step) => part_of_object(step),
        TenantStep::Cell(_) => Part::DatabaseReady,
        TenantStep::Database(step) => part_of_database(step),
        TenantStep::Keys(KeysStep::Create { .. } | KeysStep::Replace { .. }) => Part::SigningKeysReady,
        TenantStep::Entry(EntryStep::Put { .. }) => Part::Published,
        TenantStep::Keys(KeysStep::Delete { .. }) | TenantStep::Entry(EntryStep::Delete { .. }) => {
            Part::DeletionBlocked
        }
    }
}

fn part_of_database(step: &DatabaseStep) -> Part {
    match step {
        DatabaseStep::Provision(_)
        | DatabaseStep::Adopt(_)
        | DatabaseStep::Repair { .. }
        | DatabaseStep::Migrate(_)
        | DatabaseStep::SetAside { .. }
        | DatabaseStep::ResumeAccess { .. } => Part::DatabaseReady,
        DatabaseStep::SuspendAccess { .. } => Part::Suspended,
        DatabaseStep::RecordKeyring { .. } => Part::SigningKeysReady,
        DatabaseStep::RevokeAccess { .. } | DatabaseStep::PreventAdoption { .. } | DatabaseStep::Close(_) => {
            Part::DeletionBlocked
        }
    }
}

fn notice_of(step: &TenantStep) -> Option<Notice> {
    match step {
        TenantStep::Database(step) => notice_of_database(step),
        TenantStep::Keys(KeysStep::Replace { keyring, change, .. }) => notice_of_keyring(keyring, *change),
        TenantStep::Keys(KeysStep::Create { .. } | KeysStep::Delete { .. })
        | TenantStep::Object(_)
        | TenantStep::Cell(_)
        | TenantStep::Entry(_) => None,
    }
}

fn notice_of_database(step: &DatabaseStep) -> Option<Notice> {
    let normal = |reason, note: String| Some(Notice { kind: NoticeKind::Normal, reason, note });
    match step {
        DatabaseStep::Repair { row, found } => {
            let note = format!("schema '{}': found and repaired: {}", row.schema, render_list(found.iter()));
            Some(Notice { kind: NoticeKind::Warning, reason: Reason::DriftRepaired, note: shorten(&note) })
        }
        DatabaseStep::SetAside { tenant_id: _, name, remains } => {
            let mut note = format!("what was left of incarnation {} was put out of the way", remains.incarnation);
            if remains.schema {
                note.push_str(&format!("; schema '{name}' is kept as '{}'", kept_name(name, remains.incarnation)));
            }
            Some(Notice { kind: NoticeKind::Warning, reason: Reason::LossAccepted, note })
        }
        DatabaseStep::Close(close) => match (&close.row, close.policy) {
            (None, _) => None,
            (Some(row), DeletionPolicy::Retain) => {
                normal(Reason::DataRetained, format!("schema '{}' was kept; {}", row.schema, adopt_hint(&row.uid)))
            }
            (Some(row), DeletionPolicy::Archive) => {
                let (name, days) = (row.incarnation.archive_name(&row.schema), render_span(close.archive_seconds));
                let note =
                    format!("schema '{}' was archived as '{name}' for {days}; {}", row.schema, adopt_hint(&row.uid));
                normal(Reason::DataArchived, note)
            }
            (Some(row), DeletionPolicy::Delete) => {
                normal(Reason::DataDeleted, format!("schema '{}' was dropped", row.schema))
            }
        },
        DatabaseStep::Adopt(adoption) => {
            let note = format!("schema '{}' was taken over from {}", adoption.schema, adoption.describe_owner());
            normal(Reason::Adopted, note)
        }
        DatabaseStep::Provision(_)
        | DatabaseStep::Migrate(_)
        | DatabaseStep::RecordKeyring { .. }
        | DatabaseStep::SuspendAccess { .. }
        | DatabaseStep::ResumeAccess { .. }
        | DatabaseStep::RevokeAccess { .. }
        | DatabaseStep::PreventAdoption { .. } => None,
    }
}

/// How a new Tenant gets at the data of one that was deleted.
fn adopt_hint(uid: &Uid) -> String {
    format!("a new Tenant of this id takes it over with spec.database.adopt.previousUid {uid}")
}

fn render_span(seconds: i64) -> String {
    match (seconds / 86_400, seconds % 86_400) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => format!("{seconds} seconds"),
    }
}

/// A tenant's data in its database.
struct ProvisionedData<'a> {
    incarnation: Incarnation,
    schema: &'a str,
    role: &'a str,
    schema_version: i32,
}

/// The data that a reconcile made or took over.
fn provisioned(execution: &Execution<TenantStep>) -> Option<ProvisionedData<'_>> {
    execution.done.iter().find_map(|(step, _)| match step {
        TenantStep::Database(DatabaseStep::Provision(made)) => Some(ProvisionedData {
            incarnation: made.incarnation,
            schema: &made.schema,
            role: &made.role,
            schema_version: made.schema_version,
        }),
        TenantStep::Database(DatabaseStep::Adopt(taken)) => Some(ProvisionedData {
            incarnation: taken.incarnation,
            schema: &taken.schema,
            role: &taken.role,
            schema_version: taken.target_version,
        }),
        _ => None,
    })
}

/// The version that a reconcile brought the tables to.
fn migrated(execution: &Execution<TenantStep>) -> Option<i32> {
    let steps = execution.done.iter().filter_map(|(step, _)| match step {
        TenantStep::Database(DatabaseStep::Migrate(step)) if step.track == Track::Base => Some(step.file.version),
        _ => None,
    });
    steps.max()
}

fn database(facts: &TenantFacts<'_>) -> Option<TenantDatabaseStatus> {
    let observed = facts.observed?;
    let database_id = database_id(&observed.database)?;
    let data = match provisioned(facts.execution) {
        Some(made) => made,
        None => {
            let owner = facts.plan.reports.iter().any(|v| v.part == Part::DatabaseReady && v.allows_next_part());
            let row = observed.row().filter(|row| owner && row.state.in_use())?;
            ProvisionedData {
                incarnation: row.incarnation,
                schema: &row.schema,
                role: &row.role,
                schema_version: migrated(facts.execution).unwrap_or(row.schema_version),
            }
        }
    };
    Some(TenantDatabaseStatus {
        instance: facts.installation.instance.name.clone(),
        database_id: database_id.to_string(),
        incarnation: data.incarnation.to_string(),
        schema: data.schema.to_owned(),
        role: data.role.to_owned(),
        schema_version: data.schema_version,
    })
}

/// The proof of this reconcile. Its time is kept while the entry stays the same.
fn served(facts: &TenantFacts<'_>, previous: &TenantStatus, now: Timestamp) -> Option<TenantServedStatus> {
    let holds = facts.plan.reports.iter().any(|v| v.part == Part::Served && v.state == PartState::Ready);
    let observed = facts.observed?;
    let view = observed.entry.ours().filter(|_| holds)?;
    let entry_version = view.version.to_string();
    match &previous.served {
        Some(proof) if proof.entry_version == entry_version => Some(proof.clone()),
        // `Served` may hold by an earlier proof of the same spec while this entry waits for its own.
        _ if prove_served(view.version, None, &observed.replicas) != Proof::Served => None,
        _ => {
            let generation = view.entry.as_ref().map(|entry| entry.generation);
            Some(TenantServedStatus { entry_version, generation, served_time: whole_seconds(now) })
        }
    }
}
