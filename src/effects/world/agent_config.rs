//! Observing and changing what belongs to an AgentConfig.

use super::{AgentScope, World, live::LiveWorld};
use crate::effects::error::EffectError;
use crate::{
    api::names,
    domain::entry::{Entry, agent_entry_name, upstream_entry_name},
    plan::{
        observed::{ObservedAgent, Seen},
        step::{AgentStep, Done, EntryStep, RevisionStep, UpstreamStep},
    },
};
use std::collections::BTreeSet;

/// Most Tenants that a message names.
const NAMED_USERS: usize = 10;

impl World<AgentScope> for LiveWorld {
    fn observe_first(&self, _scope: &AgentScope) {}

    async fn observe(&self, scope: &AgentScope) -> ObservedAgent {
        let (credential, revisions, object) = tokio::join!(
            self.credentials.observe(&scope.object, scope.credential.as_ref()),
            self.revisions.observe(&scope.object),
            self.agents.observe_presence(&scope.object, scope.vanished)
        );
        let entry = self.registry.observe_agent(&scope.object.uid);
        let unused_upstreams = self.registry.unused_upstreams();
        let upstream_published = match &credential {
            Seen::Ours(c) => self.registry.holds(&upstream_entry_name(&c.hash)),
            Seen::Missing | Seen::Foreign(_) | Seen::Unknown(_) => false,
        };
        let dropped = unused_upstreams.keys().map(|hash| upstream_entry_name(hash));
        ObservedAgent {
            object,
            finalizer: scope.finalizers.iter().any(|f| f == names::AGENT_CONFIG_FINALIZER),
            served: scope.served,
            last_reference: self.registry.last_reference(dropped.chain([agent_entry_name(&scope.object.uid)])),
            users: self.observe_users(scope),
            entry,
            credential,
            unused_upstreams,
            upstream_published,
            revisions,
            replicas: self.replica_tracker.observe(),
        }
    }

    async fn perform(&self, scope: &AgentScope, step: &AgentStep) -> Result<Done, EffectError> {
        let object = &scope.object;
        match step {
            AgentStep::Object(step) => self.agents.perform(object, step).await,
            AgentStep::Revision(RevisionStep::Create { number, hash, behaviour }) => {
                self.revisions.perform_create(object, *number, hash, behaviour).await
            }
            AgentStep::Revision(RevisionStep::Delete { name }) => self.revisions.perform_delete(object, name).await,
            AgentStep::Upstream(UpstreamStep::Put(upstream)) => {
                if self.registry.holds(&upstream_entry_name(&upstream.hash)) {
                    return Ok(Done::Plain);
                }
                self.registry.perform_put(&Entry::Upstream(upstream.clone()), None).await.map(|_| Done::Plain)
            }
            AgentStep::Upstream(UpstreamStep::Delete { hash, version }) => {
                self.registry.perform_delete_upstream(hash, *version).await
            }
            AgentStep::Entry(EntryStep::Put { entry, replace }) => {
                self.registry.perform_put(&Entry::Agent(entry.clone()), *replace).await
            }
            AgentStep::Entry(EntryStep::Delete { uid, version }) => {
                self.registry.perform_delete(&agent_entry_name(&object.uid), uid, *version).await
            }
        }
    }
}

impl LiveWorld {
    /// Tenants with an entry that refers to it. A Tenant that only names it in its spec gets a condition.
    fn observe_users(&self, scope: &AgentScope) -> Vec<String> {
        let users =
            self.registry.users_of(&scope.object.uid).into_iter().map(|e| format!("{}/{}", e.namespace, e.name));
        users.collect::<BTreeSet<String>>().into_iter().take(NAMED_USERS).collect()
    }
}
