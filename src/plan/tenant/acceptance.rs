//! Whether a Tenant is accepted: its id is its own, nothing is in the way of its data, and what it refers to exists.

use super::{inputs::Inputs, origin::Origin, ownership::Ownership};
use crate::{
    api::{ConditionType as Part, Reason},
    domain::{class::ErrorClass, ident::Uid, resolve::AgentLookup},
    plan::{
        observed::{ObservedTenant, Seen, data_owner::TAKEN},
        report::{PartReport, PartState},
    },
};

/// Judges `Accepted`.
pub(super) fn judge_acceptance(inputs: Inputs<'_>, origin: &Result<Origin, PartReport>) -> PartReport {
    find_rival(inputs, origin)
        .or_else(|| origin.as_ref().err().filter(|refusal| refusal.part == Part::Accepted).cloned())
        .or_else(|| find_other_entry(inputs, origin))
        .or_else(|| find_missing_agents(inputs))
        .unwrap_or_else(|| PartReport::new(Part::Accepted, PartState::Ready, Reason::Accepted, "the spec is valid"))
}

fn refuse(class: ErrorClass, reason: Reason, note: impl Into<String>) -> Option<PartReport> {
    Some(PartReport::new(Part::Accepted, PartState::Refused(class), reason, note))
}

/// An older Tenant that claims the same tenant id, while neither owns it.
fn find_rival(inputs: Inputs<'_>, origin: &Result<Origin, PartReport>) -> Option<PartReport> {
    let Inputs { desired, observed, .. } = inputs;
    // The database may be out of reach, and the entry deleted by hand: then the status records the owner of the id.
    let owned = matches!(origin, Ok(Origin::Held(Ownership::Ours { .. })))
        || observed.entry.ours().is_some()
        || observed.recorded.incarnation.is_some();
    let rival = observed.rival.as_ref().filter(|_| !owned)?;
    let note = match rival.namespace == desired.object.namespace {
        true => format!("tenant id '{}' is claimed by the older Tenant {rival} (UID {})", desired.tenant_id, rival.uid),
        false => TAKEN.to_owned(),
    };
    refuse(ErrorClass::Conflict, Reason::Conflict, note)
}

/// A registry entry of somebody else, or one that may be.
fn find_other_entry(inputs: Inputs<'_>, origin: &Result<Origin, PartReport>) -> Option<PartReport> {
    let begins = matches!(origin, Ok(Origin::TakenOver(_) | Origin::Held(Ownership::Nothing { .. })));
    match &inputs.observed.entry {
        Seen::Foreign(note) => refuse(ErrorClass::Conflict, Reason::Conflict, note.clone()),
        // The entry may give the id to somebody else, or say that there was data: nothing is made before it is read.
        Seen::Unknown(read_error) if begins => Some(PartReport::new(
            Part::Accepted,
            PartState::Unread(read_error.class),
            Reason::Retrying,
            read_error.note.clone(),
        )),
        Seen::Unknown(_) | Seen::Missing | Seen::Ours(_) => None,
    }
}

/// AgentConfigs that the spec names and that don't exist, or are being deleted.
fn find_missing_agents(inputs: Inputs<'_>) -> Option<PartReport> {
    let Inputs { desired, observed, .. } = inputs;
    let missing: Vec<&str> = desired
        .agents
        .iter()
        .filter(|(name, _)| match observed.agents.get(*name) {
            None | Some(AgentLookup::Missing) => true,
            Some(AgentLookup::Leaving(uid)) => !runs_already(observed, uid),
            Some(AgentLookup::Unpublished(_) | AgentLookup::Published(_)) => false,
        })
        .map(|(_, agent)| agent.config.as_str())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let note = format!(
        "AgentConfig '{}' does not exist in namespace '{}', or is being deleted",
        missing.join("', '"),
        desired.object.namespace
    );
    refuse(ErrorClass::Waiting, Reason::AgentConfigNotFound, note)
}

/// Whether the registry lets this tenant run an AgentConfig.
fn runs_already(observed: &ObservedTenant, config: &Uid) -> bool {
    observed.readable_entry().is_some_and(|entry| entry.agents.values().any(|agent| agent.config_uid == *config))
}
