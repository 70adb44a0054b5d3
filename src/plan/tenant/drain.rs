//! How long open transactions of a tenant are waited for once its access is revoked.

use crate::plan::{
    installation::Installation,
    observed::{LedgerRow, ObservedTenant},
};
use jiff::{SignedDuration, Timestamp};

/// What is waited for, in words, and when to look again; `None` if nothing is open any more, or has had its time. Polls:
/// nobody tells us when a transaction ends.
pub(crate) fn judge_drain(
    row: &LedgerRow,
    observed: &ObservedTenant,
    installation: &Installation,
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let open = observed.database.facts().map_or(0, |facts| facts.open_transactions);
    let deadline =
        row.state_since.saturating_add(SignedDuration::from_secs(installation.ack_timeout_seconds)).unwrap_or(now);
    if open == 0 || now >= deadline {
        return None;
    }
    let poll = now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(deadline).min(deadline);
    Some((format!("waiting for {open} open transactions of the tenant"), poll))
}
