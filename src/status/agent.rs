//! Status of an AgentConfig.

use super::conditions::{Sources, part_of_object, project};
use crate::{
    api::{AgentConfigStatus, ConditionType as Part, Notice},
    domain::entry::AgentRevision,
    plan::{
        Plan,
        observed::ObservedAgent,
        report::PartState,
        step::{AgentStep, EntryStep, Execution, UpstreamStep},
    },
};
use jiff::Timestamp;

const PARTS: [Part; 3] = [Part::Accepted, Part::Published, Part::Served];

/// The facts of one reconcile of an AgentConfig.
#[derive(Clone, Copy)]
pub struct AgentFacts<'a> {
    /// Generation of the spec.
    pub generation: i64,
    /// What was read; `None` if the object was refused before anything was read.
    pub observed: Option<&'a ObservedAgent>,
    /// What was planned.
    pub plan: &'a Plan<AgentStep>,
    /// How far it got.
    pub execution: &'a Execution<AgentStep>,
    /// The object is being deleted.
    pub deleting: bool,
}

/// Computes the status of an AgentConfig and the events of this reconcile.
pub fn project_agent(
    facts: &AgentFacts<'_>,
    previous: &AgentConfigStatus,
    now: Timestamp,
) -> (AgentConfigStatus, Vec<Notice>) {
    let sources = Sources {
        parts: &PARTS,
        reports: &facts.plan.reports,
        failed: facts.execution.failed.as_ref().map(|(step, failure)| (part_of(step, facts.deleting), failure)),
        previous: &previous.conditions,
        generation: facts.generation,
        deleting: facts.deleting,
    };
    let (conditions, notices) = project(&sources, now);
    let current = current(facts);
    let status = AgentConfigStatus {
        observed_generation: Some(facts.generation),
        revision: current.map(|c| c.number).or(previous.revision),
        revision_hash: current.map(|c| c.hash.clone()).or_else(|| previous.revision_hash.clone()),
        served_entry_version: served(facts).or_else(|| previous.served_entry_version.clone()),
        conditions,
    };
    (status, notices)
}

fn part_of(step: &AgentStep, deleting: bool) -> Part {
    match step {
        AgentStep::Object(step) => part_of_object(step),
        AgentStep::Revision(_)
        | AgentStep::Upstream(UpstreamStep::Put(_))
        | AgentStep::Entry(EntryStep::Put { .. }) => Part::Published,
        AgentStep::Upstream(UpstreamStep::Delete { .. }) if !deleting => Part::Published,
        AgentStep::Upstream(UpstreamStep::Delete { .. }) | AgentStep::Entry(EntryStep::Delete { .. }) => {
            Part::DeletionBlocked
        }
    }
}

fn current<'a>(facts: &AgentFacts<'a>) -> Option<&'a AgentRevision> {
    let written = facts.execution.done.iter().find_map(|(step, _)| match step {
        AgentStep::Entry(EntryStep::Put { entry, .. }) => Some(&entry.current),
        _ => None,
    });
    let seen = facts.observed.and_then(|observed| observed.entry.ours()?.entry.as_ref());
    written.or(seen.map(|entry| &entry.current))
}

fn served(facts: &AgentFacts<'_>) -> Option<String> {
    let holds = facts.plan.reports.iter().any(|v| v.part == Part::Served && v.state == PartState::Ready);
    facts.observed?.entry.ours().filter(|_| holds).map(|view| view.version.to_string())
}
