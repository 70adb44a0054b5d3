//! Judging what the database holds for a tenant id: nothing, ours, somebody else's, or less than there was.

use super::{
    observed::{
        CellOffer, DatabaseView, EntryView, LedgerFacts, LedgerRow, ObservedTenant, RowState, Seen, Unseen, render_mark,
    },
    step::Adoption,
};
use crate::domain::ident::{DatabaseId, Incarnation, Uid};

/// What the database holds for a tenant, judged for the Tenant with one UID.
#[derive(Clone, Debug, PartialEq)]
pub enum Holding {
    /// Nothing; a new tenant would go to `offer`, in place of a tombstone where `replaces` names one.
    Nothing {
        /// Where to.
        offer: Option<CellOffer>,
        /// The tombstone's incarnation.
        replaces: Option<Incarnation>,
    },
    /// Ours. `whole` says that access and marks are as they should be.
    Ours {
        /// Its row.
        row: LedgerRow,
        /// Nothing to repair.
        whole: bool,
    },
    /// Somebody else's; the text says whose.
    Foreign(String),
    /// An earlier tenant's kept data.
    Retained(String),
    /// An earlier tenant's kept or archived data, which this one is told to take over.
    Adoptable(Box<Adoption>),
    /// This Tenant is told to take over data that is not there, or not fit.
    Unadoptable(String),
    /// Ours once, and now incomplete.
    Lost(String),
    /// Another database.
    Changed(String),
    /// Could not be read.
    Unknown(Unseen),
}

/// Identity of the database that answered, if one did.
pub fn database_id(view: &DatabaseView) -> Option<DatabaseId> {
    match view {
        DatabaseView::Facts(facts) => Some(facts.database_id),
        DatabaseView::Unknown(_) | DatabaseView::Changed { .. } => None,
    }
}

/// Judges the database for the Tenant `uid`.
pub fn judge(uid: &Uid, observed: &ObservedTenant) -> Holding {
    let facts = match &observed.database {
        DatabaseView::Unknown(unseen) => return Holding::Unknown(unseen.clone()),
        DatabaseView::Changed { expected, found } => return Holding::Changed(changed_note(*expected, *found)),
        DatabaseView::Facts(facts) => facts,
    };
    if let Some(expected) = observed.recorded.database_id.filter(|id| *id != facts.database_id) {
        return Holding::Changed(changed_note(expected, Some(facts.database_id)));
    }
    match &facts.row {
        None => judge_without_row(uid, observed, facts),
        Some(row) if row.uid == *uid => judge_own_row(row, facts),
        Some(row) => match row.state {
            RowState::Active | RowState::Suspended | RowState::Deleting => Holding::Foreign(format!(
                "the ledger gives this tenant id to Tenant {}/{} (UID {})",
                row.namespace, row.name, row.uid
            )),
            RowState::Retained => Holding::Retained(format!(
                "the database keeps schema '{}' of the deleted Tenant {}/{}: to take it over, set \
                 spec.database.adopt.previousUid to {}; to begin with nothing, choose another tenant id",
                row.schema, row.namespace, row.name, row.uid
            )),
            // An older state of the database came back: it knows nothing of this Tenant yet.
            RowState::Dropped if was_here(uid, observed) => {
                Holding::Lost("the ledger knows only an earlier Tenant of this id".to_owned())
            }
            RowState::Dropped if facts.role_mark.is_none() && facts.schema_mark.is_none() => {
                Holding::Nothing { offer: facts.offer, replaces: Some(row.incarnation) }
            }
            RowState::Dropped => Holding::Foreign(format!(
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

fn judge_without_row(uid: &Uid, observed: &ObservedTenant, facts: &LedgerFacts) -> Holding {
    if was_here(uid, observed) {
        return Holding::Lost("the ledger row of this tenant is gone".to_owned());
    }
    match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => Holding::Nothing { offer: facts.offer, replaces: None },
        _ => Holding::Foreign("a role or schema of this tenant's name exists without a ledger row".to_owned()),
    }
}

fn judge_own_row(row: &LedgerRow, facts: &LedgerFacts) -> Holding {
    let mark = render_mark(facts.database_id, row.incarnation);
    match row.state {
        RowState::Active | RowState::Suspended => {}
        RowState::Deleting => return Holding::Ours { row: row.clone(), whole: true },
        RowState::Retained | RowState::Dropped => return Holding::Ours { row: row.clone(), whole: true },
    }
    match (&facts.role_mark, &facts.schema_mark) {
        (None, None) => Holding::Lost(format!("role and schema '{}' are gone", row.schema)),
        (None, Some(_)) => Holding::Lost(format!("role '{}' is gone", row.role)),
        (Some(_), None) => Holding::Lost(format!("schema '{}' is gone", row.schema)),
        (Some(role), Some(schema)) if *role == mark && *schema == mark => {
            let access = facts.membership == (row.state == RowState::Active);
            Holding::Ours { row: row.clone(), whole: access && facts.grants_ok }
        }
        (Some(_), Some(_)) => {
            Holding::Foreign(format!("role or schema '{}' carries another mark than the ledger", row.schema))
        }
    }
}
