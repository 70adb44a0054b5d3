//! The plan of a Tenant that should be gone.
//!
//! Entry `deleting` → acknowledged → access revoked → open transactions run out → data kept or dropped, tombstone →
//! entry and keys deleted → finalizer removed. Needs only the id and the policy, so a broken spec can't block it.
//!
//! An object that vanished without us goes the same way, with its data kept: there is no finalizer to come back by, so
//! what tells of the rest (entry, else ledger row) goes last.

use super::{
    drain::judge_drain,
    entry::withdrawn_entry,
    ownership::{Ownership, judge},
};
use crate::plan::{
    Plan,
    acks::{Acknowledged, judge_acknowledged, replicas_timed_out},
    installation::Installation,
    observed::{
        DatabaseView, EntryView, KeysView, LastReference, LedgerRow, ObservedTenant, Presence, ReadError, RowState,
        Seen,
    },
    report::{PartReport, PartState, read_error_reason},
    step::{CloseDatabase, DatabaseStep, EntryStep, KeysStep, ObjectStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, DeletionPolicy, Reason},
    domain::{
        class::ErrorClass,
        entry::TenantState,
        ident::{Incarnation, ObjectId, TenantId},
    },
};
use jiff::Timestamp;

/// A Tenant that should be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departing {
    /// The object.
    pub object: ObjectId,
    /// Its tenant id; `None` if it never had a valid one, so that nothing can have been made for it.
    pub tenant_id: Option<TenantId>,
    /// What to do with its data; an unreadable policy counts as `Retain`.
    pub policy: DeletionPolicy,
}

/// Plans the deletion of a Tenant.
pub fn plan_deletion(
    departing: &Departing,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
) -> Plan<TenantStep> {
    match &observed.object {
        Presence::Cached | Presence::Gone => {}
        Presence::Alive => return Plan::nothing(Vec::new()),
        Presence::Unknown(read_error) => return unseen_part(read_error),
    }
    let Some(tenant_id) = &departing.tenant_id else {
        return finish(Vec::new(), Vec::new(), observed);
    };
    // Without the finalizer nothing was made, or somebody took it off to be let go (also: the object is gone already).
    // What is left is cleared away, and data is kept: nobody says any more that it may be dropped.
    let kept = Departing { policy: DeletionPolicy::Retain, ..departing.clone() };
    let departing = if observed.finalizer { departing } else { &kept };
    match withdraw(tenant_id, departing, observed, installation, now) {
        Ok(notices) => close(tenant_id, departing, observed, installation, now, notices),
        Err(plan) => *plan,
    }
}

/// Takes the tenant out of service: entry state `deleting`, acknowledged by every running replica or timed out. What is
/// to be told once that is done, or the plan that comes before.
fn withdraw(
    tenant_id: &TenantId,
    departing: &Departing,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
) -> Result<Vec<TenantStep>, Box<Plan<TenantStep>>> {
    let waits =
        |report, awaits, wake_at| Err(Box::new(Plan { steps: Vec::new(), reports: vec![report], awaits, wake_at }));
    let rewritten = |view: Option<&EntryView>| {
        let Some(entry) = withdrawn_entry(tenant_id, &departing.object, observed, view, installation, now) else {
            return Ok(Vec::new());
        };
        let step = TenantStep::Entry(EntryStep::Put { entry: Box::new(entry), replace: view.map(|v| v.version) });
        let reports = vec![working("the replicas are told to stop serving")];
        Err(Box::new(Plan { steps: vec![step], reports, awaits: None, wake_at: Some(now) }))
    };
    let view = match &observed.entry {
        // Deleted by hand: replicas ignore that, and serve on until they read `deleting`.
        Seen::Missing if was_served(departing, observed) => return rewritten(None),
        Seen::Missing | Seen::Foreign(_) => return Ok(Vec::new()),
        Seen::Unknown(read_error) => {
            return waits(
                blocked(Reason::Retrying, PartState::Unread(read_error.class), read_error.note.clone()),
                None,
                None,
            );
        }
        Seen::Ours(view) => view,
    };
    let deleting = view.entry.as_ref().filter(|entry| entry.state == TenantState::Deleting);
    let Some(entry) = deleting else { return rewritten(Some(view)) };
    let told = LastReference { version: view.version, since: entry.state_since };
    match judge_acknowledged(told, &observed.replicas, installation.ack_timeout_seconds, now) {
        Acknowledged::Everywhere => Ok(Vec::new()),
        Acknowledged::Waiting(names, deadline) => {
            let note = format!("waiting for {} to stop serving the tenant", names.join(", "));
            waits(working(note), Some(view.version), Some(deadline))
        }
        Acknowledged::TimedOut(names) => {
            Ok(vec![TenantStep::Object(ObjectStep::RecordEvent(replicas_timed_out(&names, "the deletion")))])
        }
    }
}

/// Whether replicas served the tenant and nothing of the deletion has been done yet. Of an object that vanished nobody
/// knows; they may have.
fn was_served(departing: &Departing, observed: &ObservedTenant) -> bool {
    let active = |row: LedgerRow| row.uid == departing.object.uid && row.state.in_use();
    let served = observed.recorded.served.is_some() || observed.object == Presence::Gone;
    served && row_of(observed).is_some_and(active)
}

/// Ends the tenant in the database, then everything else. `notices` are told once, with the first effect that follows,
/// and after it: where a namespace goes, events can't be written any more, and that must not hold up a deletion.
fn close(
    tenant_id: &TenantId,
    departing: &Departing,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
    notices: Vec<TenantStep>,
) -> Plan<TenantStep> {
    let close_now = |row: Option<LedgerRow>, replaces| {
        TenantStep::Database(DatabaseStep::Close(CloseDatabase {
            tenant_id: tenant_id.clone(),
            policy: departing.policy,
            incarnation: row.as_ref().map_or(observed.fresh.incarnation, |r| r.incarnation),
            replaces,
            row,
            archive_seconds: installation.home.archive_seconds,
        }))
    };
    let row = row_of(observed);
    match judge(&departing.object.uid, observed) {
        Ownership::Unknown(read_error) => {
            stuck(read_error_reason(read_error.class), PartState::Unread(read_error.class), read_error.note)
        }
        Ownership::Unplaced(unplaced) => {
            stuck(unplaced.reason(), PartState::Refused(ErrorClass::Conflict), unplaced.render())
        }
        Ownership::Changed(note) => stuck(Reason::DatabaseChanged, PartState::Refused(ErrorClass::Conflict), note),
        // Our row, but the objects it names carry another mark: not ours to drop, nor to leave open unsaid.
        Ownership::Foreign(note) if row.as_ref().is_some_and(|r| r.uid == departing.object.uid) => {
            stuck(Reason::Conflict, PartState::Refused(ErrorClass::Conflict), note)
        }
        // Kept data of an earlier Tenant, which this one may have begun to take over: nothing may come of that any more.
        Ownership::Retained(_) | Ownership::Adoptable(_) if observed.finalizer => {
            let prevent = row.map(|row| TenantStep::Database(DatabaseStep::PreventAdoption { row }));
            finish(prevent.into_iter().collect(), notices, observed)
        }
        // Somebody else's data: not ours to touch.
        Ownership::Foreign(_)
        | Ownership::Awaited(_)
        | Ownership::Retained(_)
        | Ownership::Adoptable(_)
        | Ownership::Unadoptable(_) => finish(Vec::new(), notices, observed),
        // Nothing was made, and nothing can be under way: the finalizer comes before the first effect.
        Ownership::Nothing { .. } if !observed.finalizer => finish(Vec::new(), notices, observed),
        // A tombstone of our own also where nothing was made yet, and in place of an earlier tenant's: a step of an
        // earlier pass that arrives late checks the row it looked at, and finds the id closed.
        Ownership::Nothing { replaces, .. } => finish(vec![close_now(None, replaces)], notices, observed),
        Ownership::Lost(_) | Ownership::GivenUp(_) => match row {
            Some(row) if row.uid != departing.object.uid => {
                finish(vec![close_now(None, Some(row.incarnation))], notices, observed)
            }
            row => finish(vec![close_now(row, None)], notices, observed),
        },
        Ownership::Ours { row, .. } => match row.state {
            RowState::Active | RowState::Suspended => Plan {
                steps: std::iter::once(TenantStep::Database(DatabaseStep::RevokeAccess { row }))
                    .chain(notices)
                    .collect(),
                reports: vec![working("access to the data is being revoked")],
                awaits: None,
                wake_at: Some(now),
            },
            RowState::Deleting => drain(row, observed, installation, now, close_now),
            RowState::Retained | RowState::Dropped => finish(Vec::new(), Vec::new(), observed),
        },
    }
}

fn row_of(observed: &ObservedTenant) -> Option<LedgerRow> {
    match &observed.database {
        DatabaseView::Facts(facts) => facts.row.clone(),
        DatabaseView::Unknown(_) | DatabaseView::Changed { .. } | DatabaseView::Unplaced(_) => None,
    }
}

/// Waits a bounded time for open transactions, then closes.
fn drain(
    row: LedgerRow,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
    close_now: impl Fn(Option<LedgerRow>, Option<Incarnation>) -> TenantStep,
) -> Plan<TenantStep> {
    if let Some((note, poll)) = judge_drain(&row, observed, installation, now) {
        let report = blocked(Reason::DrainingTransactions, PartState::Waiting, note);
        return Plan { steps: Vec::new(), reports: vec![report], awaits: None, wake_at: Some(poll) };
    }
    finish(vec![close_now(Some(row), None)], Vec::new(), observed)
}

/// Removes what is ours in Kubernetes; last what brings us back here after a crash: the finalizer, else the entry, else
/// the ledger row, which `steps` close.
fn finish(mut steps: Vec<TenantStep>, notices: Vec<TenantStep>, observed: &ObservedTenant) -> Plan<TenantStep> {
    let entry = match &observed.entry {
        Seen::Ours(EntryView { secret_uid, version, .. }) => {
            Some(TenantStep::Entry(EntryStep::Delete { uid: secret_uid.clone(), version: *version }))
        }
        Seen::Missing | Seen::Foreign(_) => None,
        Seen::Unknown(read_error) => return unseen_part(read_error),
    };
    let keys = match &observed.keys {
        Seen::Ours(KeysView { uid, version, .. }) => {
            Some(TenantStep::Keys(KeysStep::Delete { uid: uid.clone(), version: *version }))
        }
        Seen::Missing | Seen::Foreign(_) => None,
        Seen::Unknown(read_error) => return unseen_part(read_error),
    };
    match (observed.finalizer, &entry) {
        (true, _) => {
            steps.extend(entry.into_iter().chain(keys).chain([TenantStep::Object(ObjectStep::RemoveFinalizer)]))
        }
        (false, Some(_)) => steps.extend(keys.into_iter().chain(entry)),
        (false, None) => steps = keys.into_iter().chain(steps).collect(),
    }
    steps.extend(notices);
    Plan { steps, reports: vec![working("the last parts are being removed")], awaits: None, wake_at: None }
}

fn unseen_part(read_error: &ReadError) -> Plan<TenantStep> {
    stuck(Reason::Retrying, PartState::Unread(read_error.class), read_error.note.clone())
}

fn stuck(reason: Reason, state: PartState, note: String) -> Plan<TenantStep> {
    Plan::nothing(vec![blocked(reason, state, note)])
}

fn blocked(reason: Reason, state: PartState, note: impl Into<String>) -> PartReport {
    PartReport::new(Part::DeletionBlocked, state, reason, note)
}

fn working(note: impl Into<String>) -> PartReport {
    PartReport::new(Part::Ready, PartState::Waiting, Reason::Deleting, note)
}
