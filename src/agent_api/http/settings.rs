//! `GET settings` and `PUT settings`: effective values with the layer that set each, and changes within bounds.

use super::{answer_and_warn, request::LimitedJson};
use crate::{
    agent_api::{
        auth::{
            Admission, Caller,
            scope::{SettingsRead, SettingsWrite},
        },
        database::{
            settings::{ReadSettings, SettingsChange},
            statements::StoredSettings,
        },
        effective::{
            Effective, RequestedSettings, SettingRefusal, SettingSource, Sourced, resolve_change, resolve_effective,
            resolve_tenant_settings,
        },
        problem::Problem,
        storage::{Level, Storage},
    },
    api::MutableSetting,
};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingsAnswer {
    default_agent: Sourced<String>,
    agents: BTreeMap<String, AgentAnswer>,
    storage: Storage,
}

#[derive(Serialize)]
struct AgentAnswer {
    revision: i64,
    #[serde(flatten)]
    effective: Effective,
}

pub(super) async fn read(caller: Caller<SettingsRead>) -> Result<Response, Problem> {
    let place = &caller.access.tenant.place;
    let (stored, used) = caller.transact(ReadSettings { counts: place.counts_storage }).await?;
    let storage = Storage::of(place, used);
    Ok(answer_and_warn(&show(&caller, &stored, storage), storage))
}

pub(super) async fn change(
    caller: Caller<SettingsWrite>,
    body: LimitedJson<RequestedSettings>,
) -> Result<Response, Problem> {
    let LimitedJson { value: wanted, bytes: _bytes } = body;
    let tenant = &caller.access.tenant;
    let agents = tenant.agents.keys().collect();
    // A setting holds for all agents, so the most generous ceiling bounds it; each agent keeps its own below that.
    let ceiling = |a: &crate::domain::entry::EntryAgent| {
        let agent = caller.snapshot.agents.get(&a.config_uid)?;
        let most = agent.current.behaviour.max_output_tokens;
        Some(a.overrides.max_output_tokens.map_or(most, |n| n.min(most)))
    };
    let max_tokens = tenant.agents.values().filter_map(ceiling).max().unwrap_or(1);
    let change = resolve_change(&wanted, &tenant.mutable, &agents, max_tokens).map_err(|refusal| match refusal {
        SettingRefusal::Locked(field) => Problem::locked(field),
        SettingRefusal::Invalid(field, rule) => Problem::field(field, rule),
    })?;
    // What only removes is never refused.
    let limit = tenant.place.held_limit().filter(|_| !change.set.is_empty());
    let change = SettingsChange {
        set: change.set,
        remove: change.remove,
        by: caller.claims.sub.clone(),
        counts: tenant.place.counts_storage,
        limit,
    };
    let changed = caller.transact(change).await?;
    let storage = Storage::of(&tenant.place, changed.used);
    let Some(stored) = changed.stored else {
        caller.context.metrics.note_storage(Level::Full.as_str());
        return Err(Problem::storage_full(storage));
    };
    if limit.is_some() {
        caller.context.metrics.note_storage(storage.level().as_str());
    }
    Ok(answer_and_warn(&show(&caller, &stored, storage), storage))
}

fn show(caller: &Admission, stored: &StoredSettings, storage: Storage) -> SettingsAnswer {
    let tenant = &caller.access.tenant;
    let own = resolve_tenant_settings(stored, &tenant.mutable);
    let chosen = own.default_agent.as_ref().filter(|name| tenant.agents.contains_key(*name));
    let (default, source) = match chosen {
        Some(name) => (name, SettingSource::TenantSetting),
        None => (&tenant.default_agent, SettingSource::Tenant),
    };
    let default_agent = Sourced {
        value: default.as_str().to_owned(),
        source,
        locked: !tenant.mutable.contains(&MutableSetting::DefaultAgent),
    };
    let agents = tenant.agents.iter().filter_map(|(name, reference)| {
        let current = &caller.snapshot.agents.get(&reference.config_uid)?.current;
        let effective = resolve_effective(&current.behaviour, &reference.overrides, &own, &tenant.mutable);
        Some((name.as_str().to_owned(), AgentAnswer { revision: current.number, effective }))
    });
    SettingsAnswer { default_agent, agents: agents.collect(), storage }
}
