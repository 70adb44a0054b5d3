//! The reconcile of an AgentConfig.

use super::{
    reconciled::{Form, Planned, Reconciled},
    undecodable::salvage_agent,
};
use crate::{
    api::{AgentConfig, AgentConfigSpec, AgentConfigStatus, Condition, Notice},
    domain::{
        ident::Version,
        resolve::{DesiredAgent, resolve_agent, resolve_paused},
    },
    effects::{
        kubernetes::objects::{Broken, Objects},
        world::{AgentScope, live::LiveWorld},
    },
    plan::{
        Plan,
        agent_config::{plan_agent, plan_agent_deletion},
        installation::Installation,
        observed::ObservedAgent,
        report::PartReport,
        step::{AgentStep, Execution},
    },
    status::{AgentFacts, project_agent, project_rejection, project_unreadable},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

/// What the user wants of an AgentConfig.
pub enum AgentIntent {
    /// It is to be served.
    Present(Box<DesiredAgent>),
    /// It is being deleted.
    Absent,
    /// Its spec is invalid.
    Rejected(Vec<PartReport>),
}

impl Reconciled for AgentConfig {
    type Spec = AgentConfigSpec;
    type WorldScope = AgentScope;
    type Intent = AgentIntent;

    fn objects(world: &LiveWorld) -> &Objects<Self> {
        &world.agents
    }

    fn salvage(broken: &Broken, raw: &Value) -> Self {
        salvage_agent(broken, raw)
    }

    fn resolve_scope(&self, form: Form<'_>) -> AgentScope {
        AgentScope {
            object: self.id(),
            finalizers: self.finalizers().to_vec(),
            credential: self.spec.provider.api_key_secret_ref.clone(),
            served: self.status.as_ref().and_then(|s| s.served_entry_version.as_deref()).and_then(Version::parse),
            vanished: matches!(form, Form::Vanished),
        }
    }

    fn status(&self) -> Option<&AgentConfigStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &mut AgentConfigStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn resolve_intent(&self, form: Form<'_>, scope: &AgentScope) -> AgentIntent {
        if self.is_deleted() {
            return AgentIntent::Absent;
        }
        if let Form::Unreadable(error) = form {
            return AgentIntent::Rejected(project_unreadable(error));
        }
        let resolved = resolve_agent(scope.object.clone(), self.generation(), &self.spec);
        match resolve_paused(self.annotations()).map_err(|violation| vec![violation]).and(resolved) {
            Ok(desired) => AgentIntent::Present(Box::new(desired)),
            Err(violations) => AgentIntent::Rejected(project_rejection(&violations)),
        }
    }

    fn needs_observation(intent: &AgentIntent, _: &AgentScope) -> bool {
        match intent {
            AgentIntent::Present(_) | AgentIntent::Absent => true,
            AgentIntent::Rejected(_) => false,
        }
    }

    fn plan(
        intent: AgentIntent,
        observed: Option<&ObservedAgent>,
        _: &AgentScope,
        installation: &Installation,
        now: Timestamp,
    ) -> Plan<AgentStep> {
        match (intent, observed) {
            (AgentIntent::Present(desired), Some(observed)) => plan_agent(&desired, observed, installation, now),
            (AgentIntent::Absent, Some(observed)) => plan_agent_deletion(observed, installation, now),
            (AgentIntent::Rejected(reports), _) => Plan::nothing(reports),
            (AgentIntent::Present(_) | AgentIntent::Absent, None) => Plan::nothing(Vec::new()),
        }
    }

    fn project(
        &self,
        planned: &Planned<Self>,
        execution: &Execution<AgentStep>,
        now: Timestamp,
    ) -> (AgentConfigStatus, Vec<Notice>) {
        let facts = AgentFacts {
            generation: self.generation(),
            observed: planned.observed.as_ref(),
            plan: &planned.plan,
            execution,
            deleting: self.is_deleted(),
        };
        project_agent(&facts, self.status.as_ref().unwrap_or(&AgentConfigStatus::default()), now)
    }
}
