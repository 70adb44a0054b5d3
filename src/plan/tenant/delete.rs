//! The plan of a Tenant that should be gone.
//!
//! Entry `deleting` → acknowledged → access revoked → open transactions run out → data kept or dropped, tombstone →
//! entry and keys deleted → finalizer removed. Needs only the id and the policy, so a broken spec can't block it.
//!
//! An object that vanished without us goes the same way, with its data kept: there is no finalizer to come back by, so
//! what records the other parts (the entry, else the ledger row) goes last.

use super::{
    drain::judge_drain,
    entry::withdrawn_entry,
    ownership::{Ownership, judge},
    refusal::Refusal,
};
use crate::plan::{
    Plan,
    acks::{Acknowledged, judge_acknowledged, replicas_timed_out},
    installation::Installation,
    observed::{EntryView, KeysView, LastReference, LedgerRow, ObservedTenant, Presence, ReadError, RowState, Seen},
    report::{PartReport, PartState},
    step::{CloseDatabase, DatabaseStep, EntryStep, KeysStep, ObjectStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, DeletionPolicy, Reason},
    domain::{
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
        Presence::Unknown(read_error) => return unread_part(read_error),
    }
    let Some(tenant_id) = &departing.tenant_id else {
        return finish(Vec::new(), Vec::new(), observed);
    };
    // Without the finalizer nothing was made, or somebody took it off to be let go (also: the object is gone already).
    // What is left is cleared away, and data is kept: nobody says any more that it may be dropped.
    let policy = if observed.finalizer { departing.policy } else { DeletionPolicy::Retain };
    let deletion = Deletion { tenant_id, object: &departing.object, policy, observed, installation, now };
    match deletion.withdraw() {
        Ok(notices) => deletion.close(notices),
        Err(plan) => *plan,
    }
}

/// The deletion of a Tenant with a valid id.
struct Deletion<'a> {
    tenant_id: &'a TenantId,
    object: &'a ObjectId,
    policy: DeletionPolicy,
    observed: &'a ObservedTenant,
    installation: &'a Installation,
    now: Timestamp,
}

impl Deletion<'_> {
    /// Takes the tenant out of service: entry state `deleting`, acknowledged by every running replica or timed out. What is
    /// to be recorded once that is done, or the plan that comes before.
    fn withdraw(&self) -> Result<Vec<TenantStep>, Box<Plan<TenantStep>>> {
        let view = match &self.observed.entry {
            // Deleted by hand: replicas ignore that, and serve on until they read `deleting`.
            Seen::Missing if self.was_served() => return self.rewrite(None),
            Seen::Missing | Seen::Foreign(_) => return Ok(Vec::new()),
            Seen::Unknown(read_error) => return Err(Box::new(unread_part(read_error))),
            Seen::Ours(view) => view,
        };
        let deleting = view.entry.as_ref().filter(|entry| entry.state == TenantState::Deleting);
        let Some(entry) = deleting else { return self.rewrite(Some(view)) };
        let last = LastReference { version: view.version, since: entry.state_since };
        match judge_acknowledged(last, &self.observed.replicas, self.installation.ack_timeout_seconds, self.now) {
            Acknowledged::Everywhere => Ok(Vec::new()),
            Acknowledged::Waiting(names, deadline) => {
                let reports = vec![working(format!("waiting for {} to stop serving the tenant", names.join(", ")))];
                let (awaits, wake_at) = (Some(view.version), Some(deadline));
                Err(Box::new(Plan { steps: Vec::new(), reports, awaits, wake_at }))
            }
            Acknowledged::TimedOut(names) => {
                Ok(vec![TenantStep::Object(ObjectStep::RecordEvent(replicas_timed_out(&names, "the deletion")))])
            }
        }
    }

    /// The plan that writes the entry in state `deleting`.
    fn rewrite(&self, view: Option<&EntryView>) -> Result<Vec<TenantStep>, Box<Plan<TenantStep>>> {
        let Self { tenant_id, object, observed, installation, now, .. } = self;
        let Some(entry) = withdrawn_entry(tenant_id, object, observed, view, installation, *now) else {
            return Ok(Vec::new());
        };
        let step = TenantStep::Entry(EntryStep::Put { entry: Box::new(entry), replace: view.map(|v| v.version) });
        let reports = vec![working("waiting for the replicas to stop serving")];
        Err(Box::new(Plan { steps: vec![step], reports, awaits: None, wake_at: Some(self.now) }))
    }

    /// Whether replicas served the tenant and nothing of the deletion has been done yet. Of an object that vanished nobody
    /// knows; they may have.
    fn was_served(&self) -> bool {
        let observed = self.observed;
        let active = |row: &LedgerRow| row.uid == self.object.uid && row.state.in_use();
        let served = observed.recorded.served.is_some() || observed.object == Presence::Gone;
        served && observed.row().is_some_and(active)
    }

    /// Ends the tenant in the database, then everything else. `notices` are recorded once, with the first effect that follows,
    /// and after it: where a namespace goes, events can't be written any more, and that must not hold up a deletion.
    fn close(&self, notices: Vec<TenantStep>) -> Plan<TenantStep> {
        let observed = self.observed;
        match judge(self.object, observed, self.installation) {
            Err(refusal) => self.close_refused(&refusal, notices),
            // Nothing was made, and nothing can be under way: the finalizer comes before the first effect.
            Ok(Ownership::Nothing { .. }) if !observed.finalizer => finish(Vec::new(), notices, observed),
            // A tombstone of our own also where nothing was made yet, and in place of an earlier tenant's: a step of an
            // earlier reconcile that arrives late checks the row that it read, and finds the id closed.
            Ok(Ownership::Nothing { replaces, .. }) => {
                finish(vec![self.close_without_row(replaces)], notices, observed)
            }
            Ok(Ownership::GivenUp(_)) => self.close_rest(notices),
            Ok(Ownership::Ours { row, .. }) => match row.state {
                RowState::Active | RowState::Suspended => Plan {
                    steps: std::iter::once(TenantStep::Database(DatabaseStep::RevokeAccess { row }))
                        .chain(notices)
                        .collect(),
                    reports: vec![working("access to the data is being revoked")],
                    awaits: None,
                    wake_at: Some(self.now),
                },
                RowState::Deleting => self.drain(row),
                RowState::Retained | RowState::Dropped => finish(Vec::new(), Vec::new(), observed),
            },
        }
    }

    /// Ends a tenant that may not use the data in the database.
    fn close_refused(&self, refusal: &Refusal, notices: Vec<TenantStep>) -> Plan<TenantStep> {
        let (observed, row) = (self.observed, self.observed.row());
        match refusal {
            Refusal::Unknown(_) | Refusal::Unplaced(_) | Refusal::Changed(_) => stuck(refusal),
            // Our row, but the objects it names carry another mark: not ours to drop, nor to leave open unsaid.
            Refusal::Foreign(_) if row.is_some_and(|row| row.uid == self.object.uid) => stuck(refusal),
            // Kept data of an earlier Tenant, which this one may have begun to take over: nothing may come of that any more.
            Refusal::Retained(_) | Refusal::RetainedElsewhere if observed.finalizer && self.may_have_adopted() => {
                let prevent = row.map(|row| TenantStep::Database(DatabaseStep::PreventAdoption { row: row.clone() }));
                finish(prevent.into_iter().collect(), notices, observed)
            }
            // Somebody else's data: not ours to touch.
            Refusal::Foreign(_) | Refusal::Retained(_) | Refusal::RetainedElsewhere => {
                finish(Vec::new(), notices, observed)
            }
            Refusal::Lost(_) => self.close_rest(notices),
        }
    }

    /// Whether this Tenant was allowed to take over the data that is kept of its tenant id.
    fn may_have_adopted(&self) -> bool {
        let Some(facts) = self.observed.database.facts() else { return false };
        let own = facts.row.as_ref().is_some_and(|row| row.owner().is_namespace_of(self.object, self.installation));
        own || facts.permitted.iter().any(|grant| grant.is(&self.object.uid, self.installation))
    }

    /// Ends what is left of a tenant, whether or not its row is there.
    fn close_rest(&self, notices: Vec<TenantStep>) -> Plan<TenantStep> {
        let step = match self.observed.row() {
            Some(row) if row.uid == self.object.uid => self.close_row(row.clone()),
            Some(row) => self.close_without_row(Some(row.incarnation)),
            None => self.close_without_row(None),
        };
        finish(vec![step], notices, self.observed)
    }

    /// Waits a bounded time for open transactions, then closes.
    fn drain(&self, row: LedgerRow) -> Plan<TenantStep> {
        if let Some((note, poll)) = judge_drain(&row, self.observed, self.installation, self.now) {
            let report = blocked(Reason::DrainingTransactions, PartState::Waiting, note);
            return Plan { steps: Vec::new(), reports: vec![report], awaits: None, wake_at: Some(poll) };
        }
        finish(vec![self.close_row(row)], Vec::new(), self.observed)
    }

    fn close_row(&self, row: LedgerRow) -> TenantStep {
        let incarnation = row.incarnation;
        self.close_database(Some(row), incarnation, None)
    }

    fn close_without_row(&self, replaces: Option<Incarnation>) -> TenantStep {
        self.close_database(None, self.observed.fresh.incarnation, replaces)
    }

    fn close_database(
        &self,
        row: Option<LedgerRow>,
        incarnation: Incarnation,
        replaces: Option<Incarnation>,
    ) -> TenantStep {
        TenantStep::Database(DatabaseStep::Close(CloseDatabase {
            tenant_id: self.tenant_id.clone(),
            policy: self.policy,
            row,
            incarnation,
            replaces,
            archive_seconds: self.installation.instance.archive_seconds,
        }))
    }
}

/// Removes what is ours in Kubernetes; last what brings us back here after a crash: the finalizer, else the entry, else
/// the ledger row, which `steps` close.
fn finish(mut steps: Vec<TenantStep>, notices: Vec<TenantStep>, observed: &ObservedTenant) -> Plan<TenantStep> {
    let entry = match &observed.entry {
        Seen::Ours(EntryView { secret_uid, version, .. }) => {
            Some(TenantStep::Entry(EntryStep::Delete { uid: secret_uid.clone(), version: *version }))
        }
        Seen::Missing | Seen::Foreign(_) => None,
        Seen::Unknown(read_error) => return unread_part(read_error),
    };
    let keys = match &observed.keys {
        Seen::Ours(KeysView { uid, version, .. }) => {
            Some(TenantStep::Keys(KeysStep::Delete { uid: uid.clone(), version: *version }))
        }
        Seen::Missing | Seen::Foreign(_) => None,
        Seen::Unknown(read_error) => return unread_part(read_error),
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

fn unread_part(read_error: &ReadError) -> Plan<TenantStep> {
    Plan::nothing(vec![blocked(Reason::Retrying, PartState::Unread(read_error.class), read_error.note.clone())])
}

fn stuck(refusal: &Refusal) -> Plan<TenantStep> {
    Plan::nothing(vec![refusal.report_on(Part::DeletionBlocked)])
}

fn blocked(reason: Reason, state: PartState, note: impl Into<String>) -> PartReport {
    PartReport::new(Part::DeletionBlocked, state, reason, note)
}

fn working(note: impl Into<String>) -> PartReport {
    PartReport::new(Part::Ready, PartState::Waiting, Reason::Deleting, note)
}
