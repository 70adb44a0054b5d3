//! Where the data of a Tenant that should exist comes from: its own, an earlier one's that it takes over, or none yet.

use super::{
    adopt::{judge_archived, judge_retained},
    inputs::Inputs,
    ownership::Ownership,
    refusal::Refusal,
    takeover::judge_predecessor,
};
use crate::plan::{report::PartReport, step::Adoption};

/// Where the data of a Tenant comes from.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one per reconcile")]
pub(super) enum Origin {
    /// What the database holds for it already, or nothing yet.
    Held(Ownership),
    /// What an earlier Tenant left, or the same one in a lost cluster.
    TakenOver(Box<Adoption>),
}

/// Decides between what the database holds and what the Tenant is to take over; else the report that refuses both.
pub(super) fn judge_origin(held: Result<Ownership, Refusal>, inputs: Inputs<'_>) -> Result<Origin, PartReport> {
    let adoption = match &held {
        Ok(Ownership::Nothing { replaces, .. }) => judge_archived(inputs, *replaces),
        Err(Refusal::Retained(_) | Refusal::RetainedElsewhere) => judge_retained(inputs),
        Err(Refusal::Foreign(_)) => judge_predecessor(inputs),
        Ok(Ownership::Ours { .. } | Ownership::GivenUp(_))
        | Err(Refusal::Lost(_) | Refusal::Changed(_) | Refusal::Unplaced(_) | Refusal::Unknown(_)) => None,
    };
    match adoption {
        Some(adoption) => adoption.map(|adoption| Origin::TakenOver(Box::new(adoption))),
        None => held.map(Origin::Held).map_err(|refusal| refusal.report()),
    }
}
