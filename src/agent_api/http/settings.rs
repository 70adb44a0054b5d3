//! `GET settings` and `PUT settings`: effective values with the layer that set each, and changes within bounds.

use super::{answer, body::read_json};
use crate::{
    agent_api::{
        Context,
        auth::{Caller, admit, token::Scope},
        database::statements::{self, StoredSettings},
        layers::{Effective, Layered, Refusal, Source, Wanted, resolve_change, resolve_effective, resolve_own},
        problem::Problem,
    },
    api::MutableSetting,
};
use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingsAnswer {
    default_agent: Layered<String>,
    agents: BTreeMap<String, AgentAnswer>,
}

#[derive(Serialize)]
struct AgentAnswer {
    revision: i64,
    #[serde(flatten)]
    effective: Effective,
}

pub(super) async fn read(
    State(context): State<Arc<Context>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = admit(&context, &headers, &tenant, Scope::SettingsRead)?;
    let stored = caller.transact(&context, |at| Box::pin(statements::settings(at))).await?;
    Ok(answer(&show(&caller, &stored)))
}

pub(super) async fn change(
    State(context): State<Arc<Context>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = admit(&context, &headers, &tenant, Scope::SettingsWrite)?;
    let wanted: Wanted = read_json(&context, &headers, body).await?;
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
        Refusal::Locked(field) => Problem::locked(field),
        Refusal::Invalid(field, rule) => Problem::field(field, rule),
    })?;
    let change = Arc::new((change, caller.claims.sub.clone()));
    let stored = caller.transact(&context, move |at| {
        let change = Arc::clone(&change);
        Box::pin(async move {
            let (change, by) = change.as_ref();
            statements::change_settings(at, &change.set, &change.remove, by).await
        })
    });
    let stored = stored.await?;
    Ok(answer(&show(&caller, &stored)))
}

fn show(caller: &Caller, stored: &StoredSettings) -> SettingsAnswer {
    let tenant = &caller.access.tenant;
    let own = resolve_own(stored, &tenant.mutable);
    let chosen = own.default_agent.as_ref().filter(|name| tenant.agents.contains_key(*name));
    let (default, source) = match chosen {
        Some(name) => (name, Source::TenantSetting),
        None => (&tenant.default_agent, Source::Tenant),
    };
    let default_agent = Layered {
        value: default.as_str().to_owned(),
        source,
        locked: !tenant.mutable.contains(&MutableSetting::DefaultAgent),
    };
    let agents = tenant.agents.iter().filter_map(|(name, reference)| {
        let current = &caller.snapshot.agents.get(&reference.config_uid)?.current;
        let effective = resolve_effective(&current.behaviour, &reference.overrides, &own, &tenant.mutable);
        Some((name.as_str().to_owned(), AgentAnswer { revision: current.number, effective }))
    });
    SettingsAnswer { default_agent, agents: agents.collect() }
}
