//! The plan of a Tenant that should be gone.
//!
//! Entry `deleting` → acknowledged → access revoked → open transactions run out → data kept or dropped, tombstone →
//! entry and keys deleted → finalizer removed. Needs only the id and the policy, so a broken spec can't block it.

use super::{
    Plan,
    acks::still_unaware,
    ledger::{Holding, judge},
    observed::{EntryView, Installation, KeysView, LedgerRow, ObservedTenant, RowState, Seen, Unseen},
    step::{CloseDatabase, TenantStep},
    tenant::unseen_reason,
    verdict::{Stand, Verdict},
};
use crate::{
    api::{ConditionType as Part, DeletionPolicy, Notice, NoticeKind, Reason},
    domain::{
        entry::{TenantEntry, TenantState},
        ident::{ObjectId, TenantId},
    },
};
use jiff::{SignedDuration, Timestamp};

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
    let Some(tenant_id) = departing.tenant_id.as_ref().filter(|_| observed.finalizer) else {
        return finish(Vec::new(), observed);
    };
    match withdraw(observed, installation, now) {
        Withdrawal::Step(entry_step) => {
            return Plan {
                steps: vec![entry_step],
                verdicts: vec![working("the replicas are told to stop serving")],
                awaits: None,
                wake_at: Some(now),
            };
        }
        Withdrawal::Waits { plan } => return *plan,
        Withdrawal::Done(notices) => close(tenant_id, departing, observed, installation, now, notices),
    }
}

enum Withdrawal {
    Step(TenantStep),
    Waits { plan: Box<Plan<TenantStep>> },
    Done(Vec<TenantStep>),
}

/// Takes the tenant out of service: entry state `deleting`, acknowledged by every running replica or timed out.
fn withdraw(observed: &ObservedTenant, installation: &Installation, now: Timestamp) -> Withdrawal {
    let waits = |verdict, awaits, wake_at| Withdrawal::Waits {
        plan: Box::new(Plan { steps: Vec::new(), verdicts: vec![verdict], awaits, wake_at }),
    };
    let view = match &observed.entry {
        Seen::Missing | Seen::Foreign(_) => return Withdrawal::Done(Vec::new()),
        Seen::Unknown(unseen) => {
            return waits(blocked(Reason::Retrying, Stand::Unseen(unseen.class), unseen.note.clone()), None, None);
        }
        Seen::Ours(view) => view,
    };
    // A damaged entry can't be rewritten as `deleting`; replicas quarantine it, so nobody serves it as written.
    let Some(entry) = &view.entry else { return Withdrawal::Done(Vec::new()) };
    match entry.state {
        TenantState::Active | TenantState::Suspended => Withdrawal::Step(withdrawing(entry, view, installation, now)),
        TenantState::Deleting => {
            let unaware = still_unaware(view.version, &observed.replicas);
            let deadline = entry
                .state_since
                .saturating_add(SignedDuration::from_secs(installation.ack_timeout_seconds))
                .unwrap_or(now);
            match (unaware.is_empty(), now >= deadline) {
                (true, _) => Withdrawal::Done(Vec::new()),
                (false, false) => {
                    let note = format!("waiting for {} to stop serving the tenant", unaware.join(", "));
                    waits(working(note), Some(view.version), Some(deadline))
                }
                (false, true) => Withdrawal::Done(vec![TenantStep::RecordEvent(Notice {
                    kind: NoticeKind::Warning,
                    reason: Reason::ReplicaPassedOver,
                    note: format!("{} did not acknowledge the deletion in time", unaware.join(", ")),
                })]),
            }
        }
    }
}

fn withdrawing(entry: &TenantEntry, view: &EntryView, installation: &Installation, now: Timestamp) -> TenantStep {
    let entry =
        TenantEntry { state: TenantState::Deleting, state_since: now, epoch: installation.epoch, ..entry.clone() };
    TenantStep::PutEntry { entry: Box::new(entry), replace: Some(view.version) }
}

/// Ends the tenant in the database, then everything else.
fn close(
    tenant_id: &TenantId,
    departing: &Departing,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
    mut notices: Vec<TenantStep>,
) -> Plan<TenantStep> {
    let close_now = |row: Option<LedgerRow>| {
        TenantStep::CloseDatabase(CloseDatabase {
            tenant_id: tenant_id.clone(),
            policy: departing.policy,
            incarnation: row.as_ref().map_or(observed.fresh.incarnation, |r| r.incarnation),
            row,
        })
    };
    match judge(&departing.object.uid, observed) {
        Holding::Unknown(unseen) => stuck(unseen_reason(unseen.class), Stand::Unseen(unseen.class), unseen.note),
        Holding::Changed(note) => {
            stuck(Reason::DatabaseChanged, Stand::Refused(crate::domain::class::ErrorClass::Conflict), note)
        }
        // Somebody else's data, or the tombstone of an earlier tenant: not ours to touch.
        Holding::Foreign(_) | Holding::Retained(_) => finish(notices, observed),
        // A tombstone also where nothing was made yet, so that a delayed step of ours finds the id closed. Where an
        // older claimant waits for the id, it is his to open.
        Holding::Nothing { replaces: Some(_), .. } => finish(notices, observed),
        Holding::Nothing { replaces: None, .. } if observed.rival.is_some() => finish(notices, observed),
        Holding::Nothing { replaces: None, .. } => {
            notices.push(close_now(None));
            finish(notices, observed)
        }
        Holding::Lost(_) => {
            notices.push(close_now(row_of(observed)));
            finish(notices, observed)
        }
        Holding::Ours { row, .. } => match row.state {
            RowState::Active => {
                notices.push(TenantStep::RevokeAccess { row });
                Plan {
                    steps: notices,
                    verdicts: vec![working("access to the data is being revoked")],
                    awaits: None,
                    wake_at: Some(now),
                }
            }
            RowState::Deleting => drain(row, observed, installation, now, notices, close_now),
            RowState::Retained | RowState::Dropped => finish(notices, observed),
        },
    }
}

fn row_of(observed: &ObservedTenant) -> Option<LedgerRow> {
    match &observed.database {
        super::observed::DatabaseView::Facts(facts) => facts.row.clone(),
        super::observed::DatabaseView::Unknown(_) | super::observed::DatabaseView::Changed { .. } => None,
    }
}

/// Waits a bounded time for open transactions, then closes. Polls: nobody tells us when a transaction ends.
fn drain(
    row: LedgerRow,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
    mut steps: Vec<TenantStep>,
    close_now: impl Fn(Option<LedgerRow>) -> TenantStep,
) -> Plan<TenantStep> {
    let open = match &observed.database {
        super::observed::DatabaseView::Facts(facts) => facts.open_transactions,
        super::observed::DatabaseView::Unknown(_) | super::observed::DatabaseView::Changed { .. } => 0,
    };
    let deadline =
        row.state_since.saturating_add(SignedDuration::from_secs(installation.ack_timeout_seconds)).unwrap_or(now);
    if open > 0 && now < deadline {
        let note = format!("waiting for {open} open transactions of the tenant");
        let verdict = blocked(Reason::DrainingTransactions, Stand::Waits, note);
        let poll = now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(deadline);
        return Plan { steps, verdicts: vec![verdict], awaits: None, wake_at: Some(poll.min(deadline)) };
    }
    steps.push(close_now(Some(row)));
    finish(steps, observed)
}

/// Removes what is ours in Kubernetes, the finalizer last.
fn finish(mut steps: Vec<TenantStep>, observed: &ObservedTenant) -> Plan<TenantStep> {
    match &observed.entry {
        Seen::Ours(EntryView { secret_uid, version, .. }) => {
            steps.push(TenantStep::DeleteEntry { uid: secret_uid.clone(), version: *version });
        }
        Seen::Missing | Seen::Foreign(_) => {}
        Seen::Unknown(unseen) => return unseen_part(unseen),
    }
    match &observed.keys {
        Seen::Ours(KeysView { uid, version, .. }) => {
            steps.push(TenantStep::DeleteKeys { uid: uid.clone(), version: *version });
        }
        Seen::Missing | Seen::Foreign(_) => {}
        Seen::Unknown(unseen) => return unseen_part(unseen),
    }
    if observed.finalizer {
        steps.push(TenantStep::RemoveFinalizer);
    }
    Plan { steps, verdicts: vec![working("the last parts are being removed")], awaits: None, wake_at: None }
}

fn unseen_part(unseen: &Unseen) -> Plan<TenantStep> {
    stuck(Reason::Retrying, Stand::Unseen(unseen.class), unseen.note.clone())
}

fn stuck(reason: Reason, stand: Stand, note: String) -> Plan<TenantStep> {
    Plan::nothing(vec![blocked(reason, stand, note)])
}

fn blocked(reason: Reason, stand: Stand, note: impl Into<String>) -> Verdict {
    Verdict::new(Part::DeletionBlocked, stand, reason, note)
}

fn working(note: impl Into<String>) -> Verdict {
    Verdict::new(Part::Ready, Stand::Waits, Reason::Deleting, note)
}
