//! One pass of an AgentConfig: resolve, observe, plan, perform, project, report.

use super::outcome::{Form, ReconcileOutcome, perform_steps, plan_rest, resolve_outcome, rest, tell_vanished};
use crate::{
    api::{AgentConfig, AgentConfigStatus, names},
    domain::{
        ident::{ObjectId, Uid, Version},
        resolve::{resolve_agent, resolve_paused},
    },
    effects::world::{AgentScope, World},
    plan::{
        Plan,
        agent_config::{plan_agent, plan_agent_deletion},
        installation::Installation,
        step::{AgentStep, ObjectStep},
    },
    status::{AgentFacts, project_agent, project_rejection, project_unreadable},
};
use jiff::Timestamp;
use kube::ResourceExt;

/// Runs one pass. `form` says what `agent` is.
pub async fn run_agent_pass<W: World<AgentScope>>(
    world: &W,
    agent: &AgentConfig,
    form: Form<'_>,
    installation: &Installation,
    now: impl Fn() -> Timestamp,
) -> ReconcileOutcome {
    let vanished = matches!(form, Form::Vanished);
    let scope = AgentScope { vanished, ..resolve_scope(agent) };
    let generation = agent.metadata.generation.unwrap_or_default();
    let deleting = agent.metadata.deletion_timestamp.is_some();
    let paused = resolve_paused(agent.annotations());
    if paused == Ok(true) {
        let previous = agent.status.clone().unwrap_or_default();
        let told = previous.conditions.clone();
        let with_conditions = |conditions| AgentConfigStatus { conditions, ..previous };
        let steps = plan_rest::<AgentScope>(&agent.metadata, &told, with_conditions, now());
        return rest(world, &scope, &steps).await;
    }
    let (plan, observed) = if deleting {
        let observed = world.observe(&scope).await;
        (plan_agent_deletion(&observed, installation, now()), Some(observed))
    } else if let Form::Unreadable(error) = form {
        (Plan::nothing(project_unreadable(error)), None)
    } else {
        let resolved = resolve_agent(scope.object.clone(), generation, &agent.spec);
        match paused.map_err(|violation| vec![violation]).and(resolved) {
            Err(violations) => (Plan::nothing(project_rejection(&violations)), None),
            Ok(desired) => {
                let observed = world.observe(&scope).await;
                (plan_agent(&desired, &observed, installation, now()), Some(observed))
            }
        }
    };
    let (execution, error) = perform_steps(world, &scope, &plan.steps).await;
    let mut outcome = resolve_outcome(&plan, &execution, error);
    let released = deleting && !agent.finalizers().iter().any(|f| f == names::AGENT_CONFIG_FINALIZER);
    outcome.gone = execution.done.iter().any(|(step, _)| *step == AgentStep::Object(ObjectStep::RemoveFinalizer))
        || (released && outcome.is_over(&plan));
    if vanished {
        tell_vanished(&scope.object, &plan);
    }

    let none = AgentConfigStatus::default();
    let previous = agent.status.as_ref().unwrap_or(&none);
    let facts = AgentFacts { generation, observed: observed.as_ref(), plan: &plan, execution: &execution, deleting };
    let (status, notices) = project_agent(&facts, previous, now());
    let mut steps = Vec::new();
    if !released && !outcome.gone {
        if status != *previous {
            steps.push(ObjectStep::WriteStatus(Box::new(status)).into());
        }
        steps.extend(notices.into_iter().map(|notice| ObjectStep::RecordEvent(notice).into()));
    }
    let (reported, error) = perform_steps(world, &scope, &steps).await;
    outcome.add_report(reported.done.len(), error);
    outcome
}

/// What the world needs to know of an AgentConfig.
pub fn resolve_scope(agent: &AgentConfig) -> AgentScope {
    AgentScope {
        object: ObjectId {
            namespace: agent.namespace().unwrap_or_default(),
            name: agent.name_any(),
            uid: Uid(agent.uid().unwrap_or_default()),
        },
        finalizers: agent.finalizers().to_vec(),
        credential: agent.spec.provider.api_key_secret_ref.clone(),
        served: agent.status.as_ref().and_then(|s| s.served_entry_version.as_deref()).and_then(Version::parse),
        vanished: false,
    }
}
