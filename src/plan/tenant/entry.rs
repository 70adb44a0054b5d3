//! The registry entry of a Tenant: as its spec wants it, and as it is while the tenant is deleted.

use super::{inputs::Inputs, location::TenantData, revocation::revoke};
use crate::plan::{
    acks::replicas_below_format,
    installation::Installation,
    observed::{EntryView, ObservedTenant, Seen},
    report::{PartReport, PartState},
    step::{EntryStep, ObjectStep, TenantStep},
};
use crate::{
    api::{ConditionType as Part, Notice, NoticeKind, Reason},
    domain::{
        class::ErrorClass,
        entry::{EntryAgent, EntryDatabase, TenantEntry, TenantState},
        ident::{AgentName, CellNumber, ObjectId, TenantId, Uid, Version},
        keyring::Keyring,
        limits::DatabaseLimits,
        location::DataLocation,
        resolve::AgentLookup,
        tokens::TokenRules,
    },
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

fn published_agents(inputs: Inputs<'_>) -> Result<BTreeMap<AgentName, EntryAgent>, String> {
    let Inputs { desired, observed, .. } = inputs;
    let mut agents = BTreeMap::new();
    for (name, wanted) in &desired.agents {
        let uid: Uid = match observed.agents.get(name) {
            Some(AgentLookup::Published(uid) | AgentLookup::Leaving(uid)) => uid.clone(),
            Some(AgentLookup::Unpublished(_) | AgentLookup::Missing) | None => return Err(wanted.config.clone()),
        };
        agents.insert(name.clone(), EntryAgent { config_uid: uid, overrides: wanted.overrides.clone() });
    }
    Ok(agents)
}

/// Plans the entry of a Tenant that should be served. Returns the version to be acknowledged, if the entry is written already.
pub(crate) fn plan_entry(
    inputs: Inputs<'_>,
    data: &TenantData,
    keyring: &Keyring,
    steps: &mut Vec<TenantStep>,
) -> (PartReport, Option<Version>) {
    let report = |state, reason, note: String| PartReport::new(Part::Published, state, reason, note);
    let agents = match published_agents(inputs) {
        Ok(agents) => agents,
        Err(config) => {
            let note = format!("AgentConfig '{config}' is not in the registry yet");
            return (report(PartState::Waiting, Reason::AgentConfigNotPublished, note), None);
        }
    };
    let entry = render_entry(inputs, data, keyring, agents);
    let observed = inputs.observed;
    // Where the tenant was served, its entry is only missing, and is written again for the replicas that read it.
    let unable = match observed.recorded.served {
        None => replicas_below_format(entry.format, &observed.replicas),
        Some(_) => Vec::new(),
    };
    let written = || report(PartState::InProgress, Reason::Published, "the registry entry equals the spec".to_owned());
    match &observed.entry {
        Seen::Missing if !unable.is_empty() => {
            let note =
                format!("{} must be updated: this tenant id needs entry format {}", unable.join(", "), entry.format);
            (report(PartState::Waiting, Reason::WaitingForReplicas, note), None)
        }
        Seen::Missing => {
            steps.push(TenantStep::Entry(EntryStep::Put { entry: Box::new(entry), replace: None }));
            // A tenant that was served had one; replicas ignored that it went.
            if observed.recorded.served.is_some() && data.row.is_some() {
                steps.push(repaired("deleted"));
            }
            (written(), None)
        }
        Seen::Ours(view) if view.entry.as_ref().is_some_and(|old| says_the_same(old, &entry)) => {
            let note = "the registry entry equals the spec".to_owned();
            (report(PartState::Ready, Reason::Published, note), Some(view.version))
        }
        Seen::Ours(view) => {
            let edited = match &view.entry {
                Some(old) => Some(find_edits(old, &entry)).filter(|found| !found.is_empty()),
                None => Some("damaged".to_owned()),
            };
            steps.push(TenantStep::Entry(EntryStep::Put { entry: Box::new(entry), replace: Some(view.version) }));
            steps.extend(edited.as_deref().map(repaired));
            (written(), None)
        }
        Seen::Foreign(note) => (report(PartState::Refused(ErrorClass::Conflict), Reason::Conflict, note.clone()), None),
        Seen::Unknown(read_error) => {
            (report(PartState::Unread(read_error.class), Reason::Retrying, read_error.note.clone()), None)
        }
    }
}

/// The entry of a Tenant that should exist.
fn render_entry(
    inputs: Inputs<'_>,
    data: &TenantData,
    keyring: &Keyring,
    agents: BTreeMap<AgentName, EntryAgent>,
) -> TenantEntry {
    let Inputs { desired, observed, installation, now } = inputs;
    let state = if desired.suspend { TenantState::Suspended } else { TenantState::Active };
    let state_since = observed.readable_entry().filter(|old| old.state == state).map_or(now, |old| old.state_since);
    let entry = TenantEntry {
        format: TenantEntry::resolve_format(&desired.tenant_id, observed.readable_entry().map(|old| old.format)),
        tenant_id: desired.tenant_id.clone(),
        incarnation: data.incarnation,
        uid: desired.object.uid.clone(),
        namespace: desired.object.namespace.clone(),
        name: desired.object.name.clone(),
        generation: desired.generation,
        epoch: installation.epoch,
        state,
        state_since,
        database: EntryDatabase { location: data.location.clone(), limits: desired.limits },
        agents,
        default_agent: desired.default_agent.clone(),
        mutable: desired.mutable.clone(),
        auth: desired.tokens.clone(),
        keys: keyring.published(),
        revoked_kids: keyring.revoked().clone(),
        ring_version: keyring.version(),
        ring_request: keyring.handled_request().map(ToOwned::to_owned),
    };
    // The keyring may be an earlier step that is finished first.
    revoke(entry, &desired.keys.revoke, now)
}

/// Whether two entries mean the same to a replica: its writer, its time and its generation don't matter.
fn says_the_same(old: &TenantEntry, new: &TenantEntry) -> bool {
    let aligned =
        TenantEntry { generation: old.generation, epoch: old.epoch, state_since: old.state_since, ..new.clone() };
    aligned == *old
}

/// Which parts of an entry somebody changed: those that follow from a spec that did not change meanwhile, and keys of the
/// same keyring. Parts that the operator itself may have a reason to change are not named.
fn find_edits(old: &TenantEntry, new: &TenantEntry) -> String {
    if (old.generation, old.incarnation) != (new.generation, new.incarnation) {
        return String::new();
    }
    let place = |d: &EntryDatabase| {
        let DataLocation { instance: _, cell, schema, role, schema_version: _ } = d.location.clone();
        (cell, schema, role, d.limits)
    };
    let overrides =
        |e: &TenantEntry| e.agents.iter().map(|(n, a)| (n.clone(), a.overrides.clone())).collect::<Vec<_>>();
    let same_keyring = old.ring_version == new.ring_version;
    let parts = [
        ("owner", (&old.uid, &old.namespace, &old.name) != (&new.uid, &new.namespace, &new.name)),
        ("state", old.state == TenantState::Deleting),
        ("database", place(&old.database) != place(&new.database)),
        ("agents", overrides(old) != overrides(new) || old.default_agent != new.default_agent),
        ("mutable", old.mutable != new.mutable),
        ("auth", old.auth != new.auth),
        ("keys", same_keyring && (&old.keys, &old.revoked_kids) != (&new.keys, &new.revoked_kids)),
    ];
    let edited: Vec<&str> = parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    if edited.is_empty() { String::new() } else { format!("edited ({})", edited.join(", ")) }
}

/// Recorded once the entry is written again.
fn repaired(what: &str) -> TenantStep {
    TenantStep::Object(ObjectStep::RecordEvent(Notice {
        kind: NoticeKind::Warning,
        reason: Reason::DriftRepaired,
        note: format!("the registry entry was {what} by hand, and was written again"),
    }))
}

/// The entry that stands, in another state from now on.
pub(crate) fn enter_state(
    entry: &TenantEntry,
    state: TenantState,
    installation: &Installation,
    now: Timestamp,
) -> TenantEntry {
    TenantEntry { state, state_since: now, epoch: installation.epoch, ..entry.clone() }
}

/// The entry that takes a tenant out of service: the one that stands, in state `deleting`. A damaged one is
/// recreated: replicas keep the last good entry of a tenant, and ignore the deletion of one that was never `deleting`.
pub(crate) fn withdrawn_entry(
    tenant_id: &TenantId,
    object: &ObjectId,
    observed: &ObservedTenant,
    view: Option<&EntryView>,
    installation: &Installation,
    now: Timestamp,
) -> Option<TenantEntry> {
    if let Some(entry) = view.and_then(|v| v.entry.as_ref()) {
        return Some(enter_state(entry, TenantState::Deleting, installation, now));
    }
    let row = observed.row().filter(|row| row.uid == object.uid);
    let name = tenant_id.database_name(&installation.instance.prefix);
    let keyring = observed.readable_keyring();
    Some(TenantEntry {
        format: TenantEntry::resolve_format(tenant_id, None),
        tenant_id: tenant_id.clone(),
        incarnation: row.map(|r| r.incarnation).or(observed.recorded.incarnation).unwrap_or(observed.fresh.incarnation),
        uid: object.uid.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        generation: 0,
        epoch: installation.epoch,
        state: TenantState::Deleting,
        state_since: now,
        database: EntryDatabase {
            location: DataLocation {
                instance: installation.instance.name.clone(),
                cell: row.map_or(CellNumber(1), |r| r.cell),
                schema: row.map_or_else(|| name.clone(), |r| r.schema.clone()),
                role: row.map_or(name, |r| r.role.clone()),
                schema_version: row.map_or(installation.schema_version, |r| r.schema_version),
            },
            limits: DatabaseLimits::UNKNOWN,
        },
        agents: BTreeMap::new(),
        default_agent: AgentName::parse("none").ok()?,
        mutable: BTreeSet::new(),
        auth: TokenRules::UNKNOWN,
        keys: keyring.map(Keyring::published).unwrap_or_default(),
        revoked_kids: keyring.map(|r| r.revoked().clone()).unwrap_or_default(),
        ring_version: keyring.map(Keyring::version).unwrap_or_default(),
        ring_request: None,
    })
}
