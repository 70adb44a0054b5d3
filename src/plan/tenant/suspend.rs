//! Taking a tenant out of service and bringing it back, with nothing lost.
//!
//! Entry `suspended` → acknowledged by every running replica, or timed out → access revoked → open transactions run out.
//! It needs the entry as it is, and nothing else, so that neither a missing AgentConfig nor a dead database keeps a tenant
//! in service. Back again, access comes first, then the entry.

use super::{
    drain::judge_drain,
    entry::enter_state,
    inputs::Inputs,
    ownership::{Ownership, judge},
};
use crate::plan::{
    Plan,
    acks::{Acknowledged, judge_acknowledged, replicas_timed_out},
    observed::{EntryView, LastReference, LedgerRow, RowState},
    report::{PartReport, PartState},
    step::{DatabaseStep, EntryStep, ObjectStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{entry::TenantState, ident::Version},
};
use jiff::Timestamp;

/// What one reconcile has to wait for.
#[derive(Default)]
struct Pause {
    awaits: Option<Version>,
    wake_at: Option<Timestamp>,
}

/// Adds to the plan of a Tenant what takes it out of service.
pub(crate) fn plan_suspension(plan: &mut Plan<TenantStep>, inputs: Inputs<'_>) {
    let (report, pause) = suspend(inputs, &mut plan.steps);
    plan.reports.push(report);
    plan.awaits = plan.awaits.max(pause.awaits);
    plan.wake_at = plan.wake_at.into_iter().chain(pause.wake_at).min();
}

fn suspend(inputs: Inputs<'_>, steps: &mut Vec<TenantStep>) -> (PartReport, Pause) {
    let Inputs { desired, observed, installation, now } = inputs;
    let waiting = "waiting for the replicas to refuse the tenant";
    if steps.iter().any(|step| matches!(step, TenantStep::Entry(EntryStep::Put { .. }))) {
        return (waits(Reason::WaitingForReplicas, waiting), Pause::default());
    }
    let Some(view @ EntryView { entry: Some(entry), .. }) = observed.entry.ours() else {
        return (waits(Reason::Pending, "an earlier part has to be ready first"), Pause::default());
    };
    if entry.state != TenantState::Suspended {
        let entry = enter_state(entry, TenantState::Suspended, installation, now);
        steps.push(EntryStep::Put { entry: Box::new(entry), replace: Some(view.version) }.into());
        return (waits(Reason::WaitingForReplicas, waiting), Pause::default());
    }
    match judge(&desired.object, observed, installation) {
        Ok(Ownership::Ours { row, .. }) if row.state == RowState::Active => {
            let last = LastReference { version: view.version, since: entry.state_since };
            revoke(inputs, row, last, steps)
        }
        Ok(Ownership::Ours { row, .. }) => drain(inputs, &row),
        Ok(Ownership::Nothing { .. } | Ownership::GivenUp(_)) | Err(_) => {
            (waits(Reason::Pending, "requests are refused; the database has to be ready first"), Pause::default())
        }
    }
}

/// Takes the access away as soon as every running replica refuses requests by itself, or has had its time. `last`: the
/// entry that says so.
fn revoke(inputs: Inputs<'_>, row: LedgerRow, last: LastReference, steps: &mut Vec<TenantStep>) -> (PartReport, Pause) {
    let Inputs { observed, installation, now, .. } = inputs;
    let named = match judge_acknowledged(last, &observed.replicas, installation.ack_timeout_seconds, now) {
        Acknowledged::Everywhere => None,
        Acknowledged::Waiting(names, deadline) => {
            let note = format!("waiting for {} to refuse the tenant", names.join(", "));
            let pause = Pause { awaits: Some(last.version), wake_at: Some(deadline) };
            return (waits(Reason::WaitingForReplicas, note), pause);
        }
        Acknowledged::TimedOut(names) => {
            Some(TenantStep::Object(ObjectStep::RecordEvent(replicas_timed_out(&names, "the suspension"))))
        }
    };
    steps.push(DatabaseStep::SuspendAccess { row }.into());
    steps.extend(named);
    let report = waits(Reason::DrainingTransactions, "access to the data is being revoked");
    (report, Pause { awaits: None, wake_at: Some(now) })
}

/// Waits a bounded time for open transactions. Later ones are none of the agent API's: it has no access any more.
fn drain(inputs: Inputs<'_>, row: &LedgerRow) -> (PartReport, Pause) {
    if let Some((note, poll)) = judge_drain(row, inputs.observed, inputs.installation, inputs.now) {
        return (waits(Reason::DrainingTransactions, note), Pause { awaits: None, wake_at: Some(poll) });
    }
    let note = "requests are refused, and the agent API has no access to the data";
    (PartReport::new(Part::Suspended, PartState::Ready, Reason::Suspended, note), Pause::default())
}

fn waits(reason: Reason, note: impl Into<String>) -> PartReport {
    PartReport::new(Part::Suspended, PartState::Waiting, reason, note)
}
