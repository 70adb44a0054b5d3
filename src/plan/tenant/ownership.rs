//! Judging what the database holds for a tenant id: nothing, ours, somebody else's, or less than there was.

use super::{
    loss::{Remains, accepts, hint, judge_remains, lost_incarnation},
    schema::is_known,
};
use crate::domain::{
    class::ErrorClass,
    ident::{DatabaseId, Incarnation, Uid},
    migrations::tenant_grants,
};
use crate::plan::{
    drift::{Drift, Finding, PrivilegesError, find_lost_table, judge_access},
    observed::{
        CellOffer, DatabaseView, EntryView, LedgerFacts, LedgerRow, ObservedTenant, ReadError, RowState, Seen,
        render_mark, unplaced::Unplaced,
    },
    step::Adoption,
};

/// What the database holds for a tenant, judged for the Tenant with one UID.
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
    /// Somebody else's; the text says whose.
    Foreign(String),
    /// A lost cluster's, which this one takes over when nothing was heard of it for long enough.
    Awaited(String),
    /// An earlier tenant's kept data.
    Retained(String),
    /// An earlier tenant's kept or archived data, which this one is told to take over.
    Adoptable(Box<Adoption>),
    /// This Tenant is told to take over data that is not there, or not fit.
    Unadoptable(String),
    /// Ours once, and now incomplete.
    Lost(String),
    /// The same, and a person gave it up: what is left is in the way of beginning anew.
    GivenUp(Remains),
    /// Another database.
    Changed(String),
    /// There is no database to look in.
    Unplaced(Unplaced),
    /// Could not be read.
    Unknown(ReadError),
}

/// Identity of the database that answered, if one did.
pub fn database_id(view: &DatabaseView) -> Option<DatabaseId> {
    match view {
        DatabaseView::Facts(facts) => Some(facts.database_id),
        DatabaseView::Unknown(_) | DatabaseView::Changed { .. } | DatabaseView::Unplaced(_) => None,
    }
}

/// Judges the database for the Tenant `uid`.
pub fn judge(uid: &Uid, observed: &ObservedTenant) -> Ownership {
    let facts = match &observed.database {
        DatabaseView::Unknown(read_error) => return Ownership::Unknown(read_error.clone()),
        DatabaseView::Unplaced(unplaced @ Unplaced::Unasked { .. }) => {
            return Ownership::Unknown(ReadError { class: ErrorClass::Transient, note: unplaced.render() });
        }
        DatabaseView::Unplaced(unplaced) => return Ownership::Unplaced(unplaced.clone()),
        DatabaseView::Changed { expected, found } => return Ownership::Changed(changed_note(*expected, *found)),
        DatabaseView::Facts(facts) => facts,
    };
    let elsewhere = observed.recorded.database_id.filter(|id| *id != facts.database_id);
    if let Some(expected) = elsewhere.filter(|id| !accepts(observed, id)) {
        let note = changed_note(expected, Some(facts.database_id));
        return Ownership::Changed(format!("{note}{}", hint(&expected)));
    }
    match &facts.row {
        None => judge_without_row(uid, observed, facts),
        Some(row) if row.uid == *uid => judge_own_row(row, observed, facts),
        Some(row) => match row.state {
            RowState::Active | RowState::Suspended | RowState::Deleting => Ownership::Foreign(format!(
                "the ledger gives this tenant id to Tenant {}/{} (UID {})",
                row.namespace, row.name, row.uid
            )),
            RowState::Retained => Ownership::Retained(format!(
                "the database keeps schema '{}' of the deleted Tenant {}/{}: to take it over, set \
                 spec.database.adopt.previousUid to {}; to begin with nothing, choose another tenant id",
                row.schema, row.namespace, row.name, row.uid
            )),
            // An older state of the database came back: it knows nothing of this Tenant yet.
            RowState::Dropped if was_here(uid, observed) && !gave_up(observed) => {
                Ownership::Lost(format!("the ledger knows only an earlier Tenant of this id{}", lost_hint(observed)))
            }
            RowState::Dropped if facts.role_mark.is_none() && facts.schema_mark.is_none() => {
                Ownership::Nothing { offer: facts.offer, replaces: Some(row.incarnation) }
            }
            RowState::Dropped => Ownership::Foreign(format!(
                "role or schema '{}' exists, though the ledger says that the Tenant {}/{} it belonged to was dropped",
                row.schema, row.namespace, row.name
            )),
        },
    }
}

fn changed_note(expected: DatabaseId, found: Option<DatabaseId>) -> String {
    match found {
        Some(found) => format!("the database that answers is {found}, this was provisioned in {expected}"),
        None => format!("the database that answers has no control schema, this was provisioned in {expected}"),
    }
}

/// Whether status or entry tell that this Tenant's data was in this database.
fn was_here(uid: &Uid, observed: &ObservedTenant) -> bool {
    let served = match &observed.entry {
        Seen::Ours(EntryView { entry: Some(entry), .. }) => entry.uid == *uid,
        Seen::Ours(_) | Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => false,
    };
    served || observed.recorded.incarnation.is_some()
}

/// Whether a person gave up the data that was recorded, or the whole database in which it was.
fn gave_up(observed: &ObservedTenant) -> bool {
    lost_incarnation(observed).is_some_and(|lost| accepts(observed, &lost))
        || observed.recorded.database_id.is_some_and(|lost| accepts(observed, &lost))
}

fn lost_hint(observed: &ObservedTenant) -> String {
    lost_incarnation(observed).map_or_else(String::new, |lost| hint(&lost))
}

fn judge_without_row(uid: &Uid, observed: &ObservedTenant, facts: &LedgerFacts) -> Ownership {
    let was_here = was_here(uid, observed);
    if was_here && !gave_up(observed) {
        return Ownership::Lost(format!("the ledger row of this tenant is gone{}", lost_hint(observed)));
    }
    match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => Ownership::Nothing { offer: facts.offer, replaces: None },
        _ => match lost_incarnation(observed).filter(|_| was_here).and_then(|lost| judge_remains(lost, None, facts)) {
            Some(remains) => Ownership::GivenUp(remains),
            None => Ownership::Foreign("a role or schema of this tenant's name exists without a ledger row".to_owned()),
        },
    }
}

fn judge_own_row(row: &LedgerRow, observed: &ObservedTenant, facts: &LedgerFacts) -> Ownership {
    let mark = render_mark(facts.database_id, row.incarnation);
    let given_up = accepts(observed, &row.incarnation);
    match row.state {
        RowState::Active | RowState::Suspended => {}
        // What was left was put out of the way.
        RowState::Dropped if given_up && facts.role_mark.is_none() && facts.schema_mark.is_none() => {
            return Ownership::Nothing { offer: facts.offer, replaces: Some(row.incarnation) };
        }
        RowState::Deleting | RowState::Retained | RowState::Dropped => {
            return Ownership::Ours { row: row.clone(), drift: Vec::new() };
        }
    }
    let lost = |what: String| match judge_remains(row.incarnation, Some(row), facts) {
        Some(remains) if given_up => Ownership::GivenUp(remains),
        Some(_) | None => Ownership::Lost(format!("{what}{}", hint(&row.incarnation))),
    };
    let (role, schema) = match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => return lost(format!("role and schema '{}' are gone", row.schema)),
        (None, Some(_)) => return lost(format!("role '{}' is gone", row.role)),
        (Some(_), None) => return lost(format!("schema '{}' is gone", row.schema)),
        (Some(role), Some(schema)) => (role, schema),
    };
    // A mark that somebody took away is put back as long as the other one says whose this is.
    let ours = |one: &String, other: &String| *one == mark || (one.is_empty() && *other == mark);
    if !ours(role, schema) || !ours(schema, role) {
        return Ownership::Foreign(format!("role or schema '{}' carries another mark than the ledger", row.schema));
    }
    let mut drift = Vec::new();
    for (found, missing) in [(Drift::SchemaMark, schema.is_empty()), (Drift::RoleMark, role.is_empty())] {
        if missing {
            drift.push(Finding { drift: found, mendable: true });
        }
    }
    // What belongs to newer tables is not known here: nothing of them may be taken for drift.
    if !is_known(row.schema_version) {
        return Ownership::Ours { row: row.clone(), drift };
    }
    let bug = |note: String| Ownership::Unknown(ReadError { class: ErrorClass::Bug, note });
    let (Some(access), grants) = (&facts.access, tenant_grants(row.schema_version)) else {
        return bug("the database did not tell who has access".to_owned());
    };
    let grants = match grants {
        Ok(grants) => grants,
        Err(error) => return bug(error.to_string()),
    };
    if let Some(table) = find_lost_table(access, &grants) {
        return lost(format!("table '{table}' of schema '{}' is gone", row.schema));
    }
    match judge_access(access, &row.role, row.state == RowState::Active, &grants) {
        Ok(found) => {
            drift.extend(found);
            Ownership::Ours { row: row.clone(), drift }
        }
        Err(error @ PrivilegesError(_)) => bug(error.to_string()),
    }
}
