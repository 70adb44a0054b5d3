//! `World<AgentScope>` over the model.

use super::{
    objects,
    operator::{Operator, Part},
    registry,
    state::{State, transient},
    tenant_world::presence,
};
use agent_tenancy::{
    api::names,
    domain::{
        entry::{Entry, agent_entry_name, credential_hash, upstream_entry_name},
        ident::Version,
    },
    effects::{
        error::EffectError,
        world::{AgentScope, World},
    },
    plan::{
        observed::{AgentEntryView, Credential, ObservedAgent, RevisionView, Seen},
        step::{AgentStep, Done, EntryStep, ObjectStep, RevisionStep, UpstreamStep},
    },
};
use std::collections::BTreeMap;

impl World<AgentScope> for Operator {
    fn observe_first(&self, _scope: &AgentScope) {}

    async fn observe(&self, scope: &AgentScope) -> ObservedAgent {
        let state = self.state();
        let now = &*state;
        let old = Part::ALL.map(|part| (part, self.view(part)));
        let part = |part| old.iter().find(|(p, _)| *p == part).and_then(|(_, v)| v.as_deref()).unwrap_or(now);
        let uid = &scope.object.uid;
        let credential = match &scope.credential {
            None => Seen::Missing,
            Some(r) => match now.credentials.get(&(scope.object.namespace.clone(), r.name.clone())) {
                None => Seen::Missing,
                Some(key) => {
                    Seen::Ours(Credential { hash: credential_hash(&scope.object.namespace, key), api_key: key.clone() })
                }
            },
        };
        let wanted = match &credential {
            Seen::Ours(c) => Some(c.hash.clone()),
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => None,
        };
        let view = part(Part::Entry);
        let entry = match view.registry.get(&agent_entry_name(uid)) {
            None => Seen::Missing,
            Some(secret) => Seen::Ours(AgentEntryView {
                secret_uid: secret.uid.clone(),
                version: secret.version,
                entry: match &secret.entry {
                    Some(Entry::Agent(e)) => Some(e.as_ref().clone()),
                    _ => None,
                },
            }),
        };
        let unused_upstreams: BTreeMap<String, Version> = now
            .registry
            .iter()
            .filter(|(name, _)| !now.is_referenced(name))
            .filter_map(|(_, s)| match &s.entry {
                Some(Entry::Upstream(e)) => Some((e.hash.clone(), s.version)),
                _ => None,
            })
            .collect();
        let names = unused_upstreams.keys().map(|h| upstream_entry_name(h)).chain([agent_entry_name(uid)]);
        let last_reference = names.filter_map(|n| now.dropped.get(&n).copied()).max().unwrap_or_default();
        let revisions: Vec<RevisionView> = now
            .revisions
            .iter()
            .filter(|((owner, _), _)| owner == uid)
            .map(|((_, number), hash)| RevisionView {
                name: format!("{}-{number}", scope.object.name),
                number: *number,
                hash: hash.clone(),
            })
            .collect();
        let name = agent_entry_name(uid);
        let users = view.registry.iter().filter(|(_, s)| State::references(s.entry.as_ref()).contains(&name));
        ObservedAgent {
            object: presence(scope.vanished, now.live_agent(&scope.object.uid).is_some()),
            finalizer: scope.finalizers.iter().any(|f| f == names::AGENT_CONFIG_FINALIZER),
            served: scope.served,
            upstream_published: wanted.is_some_and(|h| registry::holds(now, &upstream_entry_name(&h))),
            users: users.map(|(n, _)| n.clone()).collect(),
            entry,
            credential,
            unused_upstreams,
            revisions: if revisions.is_empty() { Seen::Missing } else { Seen::Ours(revisions) },
            last_reference,
            replicas: part(Part::Replicas).replicas(),
        }
    }

    async fn perform(&self, scope: &AgentScope, step: &AgentStep) -> Result<Done, EffectError> {
        let object = &scope.object;
        {
            let mut state = self.state();
            objects::check_canary(&mut state, step);
            let outside = !matches!(step, AgentStep::Object(_));
            if outside && state.leader == self.epoch && !self.is_dead() {
                objects::check_finalizer(&mut state, object, step);
            }
        }
        self.effect(|s| match step {
            AgentStep::Object(ObjectStep::AddFinalizer | ObjectStep::RemoveFinalizer | ObjectStep::WriteStatus(_))
                if self.check_version(s, object).is_err() =>
            {
                Err(transient("the object changed"))
            }
            AgentStep::Object(ObjectStep::AddFinalizer) => {
                objects::add_finalizer(s, object, names::AGENT_CONFIG_FINALIZER)
            }
            AgentStep::Revision(RevisionStep::Create { number, hash, .. }) => {
                let key = (object.uid.clone(), *number);
                match s.revisions.get(&key) {
                    Some(found) if found == hash => {}
                    Some(_) => return Err(transient("another revision has this number")),
                    None => {
                        s.revisions.insert(key, hash.clone());
                        s.wrote();
                    }
                }
                Ok(Done::Plain)
            }
            AgentStep::Revision(RevisionStep::Delete { name }) => {
                let number = name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default();
                s.revisions.remove(&(object.uid.clone(), number));
                s.wrote();
                Ok(Done::Plain)
            }
            AgentStep::Upstream(UpstreamStep::Put(entry)) => {
                if registry::holds(s, &upstream_entry_name(&entry.hash)) {
                    return Ok(Done::Plain);
                }
                registry::put(s, Entry::Upstream(entry.clone()), None, None).map(|_| Done::Plain)
            }
            AgentStep::Entry(EntryStep::Put { entry, replace }) => {
                registry::put(s, Entry::Agent(entry.clone()), Some(object.uid.clone()), *replace)
            }
            AgentStep::Entry(EntryStep::Delete { uid, version }) => {
                registry::delete(s, &agent_entry_name(&object.uid), Some(uid), *version)
            }
            AgentStep::Upstream(UpstreamStep::Delete { hash, version }) => {
                registry::delete(s, &upstream_entry_name(hash), None, *version)
            }
            AgentStep::Object(ObjectStep::RemoveFinalizer) => objects::remove_finalizer(s, object),
            AgentStep::Object(ObjectStep::WriteStatus(status)) => {
                objects::check_canary(s, status);
                let key = (object.namespace.clone(), object.name.clone());
                let found = s.agents.get(&key).filter(|a| a.metadata.uid.as_deref() == Some(&object.uid.0));
                let Some(agent) = found else { return Err(transient("the object is gone")) };
                let before = agent.status.clone().unwrap_or_default();
                let generations =
                    objects::Generations { observed: status.observed_generation, object: agent.metadata.generation };
                let parts = ["Accepted", "Published", "Served"];
                objects::check_conditions(s, &object.uid, &parts, generations, &before.conditions, &status.conditions);
                let version = s.bump().to_string();
                if let Some(agent) = s.agents.get_mut(&key) {
                    agent.status = serde_json::to_value(status).ok().and_then(|v| serde_json::from_value(v).ok());
                    agent.metadata.resource_version = Some(version);
                }
                s.wrote();
                Ok(Done::Plain)
            }
            AgentStep::Object(ObjectStep::RecordEvent(notice)) => Ok(objects::record(s, object, notice)),
        })
    }
}
