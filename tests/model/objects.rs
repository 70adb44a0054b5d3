//! Writes to the model's Tenants and AgentConfigs: finalizer, status, events, with what must hold of each.

use super::state::{CANARY, State, transient};
use agent_tenancy::{
    api::{Condition, Notice, names},
    domain::ident::{ObjectId, Uid},
    effects::error::EffectError,
    plan::step::Done,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::fmt::Debug;

/// The object's metadata, if it still lives this life.
fn metadata<'a>(state: &'a mut State, id: &ObjectId) -> Result<&'a mut ObjectMeta, EffectError> {
    let key = (id.namespace.clone(), id.name.clone());
    let tenant = state.tenants.get_mut(&key).map(|t| &mut t.metadata);
    let agent = state.agents.get_mut(&key).map(|a| &mut a.metadata);
    tenant
        .into_iter()
        .chain(agent)
        .find(|m| m.uid.as_deref() == Some(id.uid.0.as_str()))
        .ok_or_else(|| transient("the object is gone"))
}

pub fn add_finalizer(state: &mut State, id: &ObjectId, name: &str) -> Result<Done, EffectError> {
    let version = state.bump().to_string();
    let meta = metadata(state, id)?;
    if meta.deletion_timestamp.is_some() {
        return Err(transient("no finalizer can be added any more"));
    }
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == name) {
        finalizers.push(name.to_owned());
        meta.resource_version = Some(version);
        state.wrote();
    }
    Ok(Done::Plain)
}

pub fn remove_finalizer(state: &mut State, id: &ObjectId) -> Result<Done, EffectError> {
    let Ok(meta) = metadata(state, id) else { return Ok(Done::Plain) };
    meta.finalizers = None;
    let gone = meta.deletion_timestamp.is_some();
    let key = (id.namespace.clone(), id.name.clone());
    if gone {
        state.tenants.remove(&key);
        state.agents.remove(&key);
        state.revisions.retain(|(owner, _), _| *owner != id.uid);
    } else {
        state.violation("a finalizer was removed from an object that is not being deleted");
    }
    state.wrote();
    Ok(Done::Plain)
}

/// Before anything outside the object is made: the object lives, and our finalizer is on it.
pub fn check_finalizer(state: &mut State, id: &ObjectId, what: &impl Debug) {
    let there = metadata(state, id).is_ok_and(|m| State::has_finalizer(m.finalizers.as_ref()));
    if !there && !state.stale && !state.stripped.contains(&id.uid) {
        state.violation(format!("no finalizer on {id} before {what:?}"));
    }
}

pub fn record(state: &mut State, id: &ObjectId, notice: &Notice) -> Done {
    check_canary(state, notice);
    state.events.push((id.uid.clone(), notice.clone()));
    state.wrote();
    Done::Plain
}

/// No secret shows in what is written for people, nor in the `Debug` of a step.
pub fn check_canary(state: &mut State, what: &impl Debug) {
    if !state.grep {
        return;
    }
    let text = format!("{what:?}");
    // "CANARY" in base64 at the three possible offsets, and as a list of bytes.
    if [CANARY, "Q0FOQV", "NBTkFSW", "DQU5BUl", "67, 65, 78, 65, 82"].iter().any(|c| text.contains(c)) {
        state.violation(format!("a secret shows: {text}"));
    }
}

/// Of an object and of its status.
#[derive(Clone, Copy)]
pub struct Generations {
    pub observed: Option<i64>,
    pub object: Option<i64>,
}

/// What must hold of all conditions in every status that is written.
pub fn check_conditions(
    state: &mut State,
    uid: &Uid,
    parts: &[&str],
    generations: Generations,
    before: &[Condition],
    after: &[Condition],
) {
    for part in parts.iter().chain(&["Ready"]) {
        if !after.iter().any(|c| c.type_ == **part) {
            state.violation(format!("{uid}: condition {part} is missing"));
        }
    }
    let Generations { observed: own, object: of_object } = generations;
    // `Paused` is about the present generation; the other conditions are about the generation that was reconciled last.
    let expected = |c: &Condition| if c.reason == "Paused" { of_object } else { own };
    if own > of_object || after.iter().any(|c| c.observed_generation != expected(c)) {
        state.violation(format!("{uid}: observedGeneration {own:?} of {of_object:?} is not everywhere the same"));
    }
    for now in after {
        let old = before.iter().find(|c| c.type_ == now.type_);
        let moved = old.is_none_or(|o| o.last_transition_time != now.last_transition_time);
        let turned = old.is_none_or(|o| o.status != now.status);
        if moved && !turned {
            state.violation(format!("{uid}: the time of {} moved without its status", now.type_));
        }
        if now.reason.is_empty() || now.last_transition_time.0 > state.now {
            state.violation(format!("{uid}: {} has no reason or a time to come", now.type_));
        }
    }
    *state.status_writes.entry(uid.clone()).or_default() += 1;
}

pub const TENANT_FINALIZER: &str = names::TENANT_FINALIZER;
