//! Judging what the database holds for a tenant id: nothing, ours, somebody else's, or less than there was.

use super::{
    loss::{accepts, hint, judge_remains, lost_incarnation},
    refusal::Refusal,
    schema::is_known,
};
use crate::domain::{
    class::ErrorClass,
    ident::{DatabaseId, Incarnation, ObjectId, Uid},
    migrations::tenant_grants,
};
use crate::plan::{
    drift::{Drift, Finding, find_lost_table, judge_access},
    installation::Installation,
    observed::{
        CellOffer, DatabaseView, LedgerFacts, LedgerRow, ObservedTenant, ReadError, RowState, render_mark,
        unplaced::Unplaced,
    },
    step::Remains,
};

/// What the database holds for a tenant that the Tenant with one UID may use.
#[derive(Clone, Debug, PartialEq)]
pub enum Ownership {
    /// Nothing; a new tenant would go to `offer`, in place of a tombstone where `replaces` names one.
    Nothing {
        /// Where to.
        offer: Option<CellOffer>,
        /// The tombstone's incarnation.
        replaces: Option<Incarnation>,
    },
    /// Ours.
    Ours {
        /// Its row.
        row: LedgerRow,
        /// What somebody changed; empty if everything is as it should be.
        drift: Vec<Finding>,
    },
    /// Some of its data is gone, and a user accepted the loss: the remains have to be moved before it can start with nothing.
    GivenUp(Remains),
}

/// Identity of the database that answered, if one did.
pub fn database_id(view: &DatabaseView) -> Option<DatabaseId> {
    view.facts().map(|facts| facts.database_id)
}

/// Judges the database for the Tenant `object`.
///
/// # Errors
/// When that Tenant may not use what is there, or nothing is known of it.
pub fn judge(object: &ObjectId, observed: &ObservedTenant, installation: &Installation) -> Result<Ownership, Refusal> {
    let uid = &object.uid;
    let facts = match &observed.database {
        DatabaseView::Unknown(read_error) => return Err(Refusal::Unknown(read_error.clone())),
        DatabaseView::Unplaced(unplaced @ Unplaced::Unasked { .. }) => {
            return Err(Refusal::Unknown(ReadError::new(ErrorClass::Transient, unplaced.render())));
        }
        DatabaseView::Unplaced(unplaced) => return Err(Refusal::Unplaced(unplaced.clone())),
        DatabaseView::Changed { expected, found } => return Err(Refusal::Changed(changed_note(*expected, *found))),
        DatabaseView::Facts(facts) => facts,
    };
    let elsewhere = observed.recorded.database_id.filter(|id| *id != facts.database_id);
    if let Some(expected) = elsewhere.filter(|id| !accepts(observed, id)) {
        let note = changed_note(expected, Some(facts.database_id));
        return Err(Refusal::Changed(format!("{note}{}", hint(&expected))));
    }
    match &facts.row {
        None => judge_without_row(uid, observed, facts),
        Some(row) if row.uid == *uid => judge_own_row(row, observed, facts),
        Some(row) => judge_other_row(row, observed, facts, uid)
            .map_err(|refusal| refusal.shown_to(row.owner().is_namespace_of(object, installation))),
    }
}

fn changed_note(expected: DatabaseId, found: Option<DatabaseId>) -> String {
    match found {
        Some(found) => format!("the database that answers is {found}, this was provisioned in {expected}"),
        None => format!("the database that answers has no control schema, this was provisioned in {expected}"),
    }
}

/// Whether status or entry record that this Tenant's data was in this database.
fn was_here(uid: &Uid, observed: &ObservedTenant) -> bool {
    observed.readable_entry().is_some_and(|entry| entry.uid == *uid) || observed.recorded.incarnation.is_some()
}

/// Whether a person gave up the data that was recorded, or the whole database in which it was.
fn gave_up(observed: &ObservedTenant) -> bool {
    lost_incarnation(observed).is_some_and(|lost| accepts(observed, &lost))
        || observed.recorded.database_id.is_some_and(|lost| accepts(observed, &lost))
}

fn lost_hint(observed: &ObservedTenant) -> String {
    lost_incarnation(observed).map_or_else(String::new, |lost| hint(&lost))
}

/// The row of another Tenant, in the words for a Tenant of the same namespace.
fn judge_other_row(
    row: &LedgerRow,
    observed: &ObservedTenant,
    facts: &LedgerFacts,
    uid: &Uid,
) -> Result<Ownership, Refusal> {
    match row.state {
        RowState::Active | RowState::Suspended | RowState::Deleting => Err(Refusal::Foreign(format!(
            "the ledger gives this tenant id to Tenant {}/{} (UID {})",
            row.namespace, row.name, row.uid
        ))),
        RowState::Retained => Err(Refusal::Retained(format!(
            "the database keeps schema '{}' of the deleted Tenant {}/{}: to take it over, set \
             spec.database.adopt.previousUid to {}; to begin with nothing, choose another tenant id",
            row.schema, row.namespace, row.name, row.uid
        ))),
        // An older state of the database came back: it knows nothing of this Tenant yet.
        RowState::Dropped if was_here(uid, observed) && !gave_up(observed) => {
            Err(Refusal::Lost(format!("the ledger knows only an earlier Tenant of this id{}", lost_hint(observed))))
        }
        RowState::Dropped if facts.role_mark.is_none() && facts.schema_mark.is_none() => {
            Ok(Ownership::Nothing { offer: facts.offer, replaces: Some(row.incarnation) })
        }
        RowState::Dropped => Err(Refusal::Foreign(format!(
            "role or schema '{}' exists, though the ledger says that the Tenant {}/{} it belonged to was dropped",
            row.schema, row.namespace, row.name
        ))),
    }
}

fn judge_without_row(uid: &Uid, observed: &ObservedTenant, facts: &LedgerFacts) -> Result<Ownership, Refusal> {
    let was_here = was_here(uid, observed);
    if was_here && !gave_up(observed) {
        return Err(Refusal::Lost(format!("the ledger row of this tenant is gone{}", lost_hint(observed))));
    }
    match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => Ok(Ownership::Nothing { offer: facts.offer, replaces: None }),
        _ => lost_incarnation(observed)
            .filter(|_| was_here)
            .and_then(|lost| judge_remains(lost, None, facts))
            .map(Ownership::GivenUp)
            .ok_or_else(|| {
                Refusal::Foreign("a role or schema of this tenant's name exists without a ledger row".to_owned())
            }),
    }
}

/// The Tenant's own row.
fn judge_own_row(row: &LedgerRow, observed: &ObservedTenant, facts: &LedgerFacts) -> Result<Ownership, Refusal> {
    let given_up = accepts(observed, &row.incarnation);
    match row.state {
        RowState::Active | RowState::Suspended => {}
        // What was left was put out of the way.
        RowState::Dropped if given_up && facts.role_mark.is_none() && facts.schema_mark.is_none() => {
            return Ok(Ownership::Nothing { offer: facts.offer, replaces: Some(row.incarnation) });
        }
        RowState::Deleting | RowState::Retained | RowState::Dropped => {
            return Ok(Ownership::Ours { row: row.clone(), drift: Vec::new() });
        }
    }
    let lost = |what: String| match judge_remains(row.incarnation, Some(row), facts) {
        Some(remains) if given_up => Ok(Ownership::GivenUp(remains)),
        Some(_) | None => Err(Refusal::Lost(format!("{what}{}", hint(&row.incarnation)))),
    };
    let (role, schema) = match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => return lost(format!("role and schema '{}' are gone", row.schema)),
        (None, Some(_)) => return lost(format!("role '{}' is gone", row.role)),
        (Some(_), None) => return lost(format!("schema '{}' is gone", row.schema)),
        (Some(role), Some(schema)) => (role, schema),
    };
    let mut drift = judge_marks(&render_mark(facts.database_id, row.incarnation), role, schema).ok_or_else(|| {
        Refusal::Foreign(format!("role or schema '{}' carries another mark than the ledger", row.schema))
    })?;
    // What belongs to newer tables is not known here: nothing of them may be taken for drift.
    if !is_known(row.schema_version) {
        return Ok(Ownership::Ours { row: row.clone(), drift });
    }
    let bug = |note: String| Refusal::Unknown(ReadError::new(ErrorClass::Bug, note));
    let (Some(access), grants) = (&facts.access, tenant_grants(row.schema_version)) else {
        return Err(bug("the database did not say which roles have access".to_owned()));
    };
    let grants = grants.map_err(|error| bug(error.to_string()))?;
    if let Some(table) = find_lost_table(access, &grants) {
        return lost(format!("table '{table}' of schema '{}' is gone", row.schema));
    }
    let found = judge_access(access, &row.role, row.state == RowState::Active, &grants);
    drift.extend(found.map_err(|error| bug(error.to_string()))?);
    Ok(Ownership::Ours { row: row.clone(), drift })
}

/// Which of the two marks somebody took away; `None` where role or schema carries another one. A mark that is gone is put
/// back as long as the other one names the data.
fn judge_marks(mark: &str, role: &str, schema: &str) -> Option<Vec<Finding>> {
    let ours = |one: &str, other: &str| one == mark || (one.is_empty() && other == mark);
    if !ours(role, schema) || !ours(schema, role) {
        return None;
    }
    let gone = [(Drift::SchemaMark, schema.is_empty()), (Drift::RoleMark, role.is_empty())];
    Some(gone.into_iter().filter(|(_, gone)| *gone).map(|(drift, _)| Finding { drift, repairable: true }).collect())
}
