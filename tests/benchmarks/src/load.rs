//! A parallel client that creates Tenants, and a watch that sees them become Ready.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

/// Create requests at the same time.
pub(super) const AT_ONCE: usize = 16;
/// The AgentConfigs that Tenants refer to in turn.
const AGENTS: [&str; 3] = ["support", "sales", "billing"];

/// An API for a kind of agent-tenancy.
pub(super) fn kind(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("agent-tenancy.dev", "v1alpha1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// Creates the AgentConfigs and waits until they are Ready.
pub(super) async fn create_agents(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let agents = kind(client, namespace, "AgentConfig");
    let ready = watch_ready(&agents, AGENTS.iter().map(|name| (*name).to_owned()).collect());
    for name in AGENTS {
        let object = serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "AgentConfig", "metadata": { "name": name },
            "spec": {
                "provider": { "type": "Echo" }, "model": "echo-1",
                "systemPrompt": { "inline": format!("You are the {name} agent. Answer in at most three sentences.") },
                "parameters": { "temperature": "0.2", "maxOutputTokens": 512 },
            },
        }))?;
        agents.create(&PostParams::default(), &object).await?;
    }
    ready.await.map(drop)
}

/// A Tenant as a user would write it; `number` decides which AgentConfigs it uses.
pub(super) fn tenant(name: &str, number: usize) -> anyhow::Result<DynamicObject> {
    let agent = |step: usize| AGENTS[(number + step) % AGENTS.len()];
    Ok(serde_json::from_value(json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": name },
        "spec": {
            "displayName": format!("Customer {name}"),
            "agents": [
                { "name": "main", "configRef": { "name": agent(0) } },
                { "name": "second", "configRef": { "name": agent(1) } },
            ],
            "defaultAgent": "main",
        },
    }))?)
}

/// When each Tenant was created and became Ready, from the first request on. In the order of creation.
pub(super) struct Timeline {
    /// Request sent, Ready seen.
    rows: Vec<(Duration, Duration)>,
}

impl Timeline {
    /// Creates the Tenants and returns when the last is Ready.
    pub(super) async fn run(client: &Client, namespace: &str, names: Vec<String>) -> anyhow::Result<Timeline> {
        let tenants = kind(client, namespace, "Tenant");
        let ready = watch_ready(&tenants, names.iter().cloned().collect());
        let start = Instant::now();
        let create = |(number, name): (usize, String)| {
            let tenants = tenants.clone();
            async move {
                let object = tenant(&name, number)?;
                let sent = start.elapsed();
                let created = tenants.create(&PostParams::default(), &object).await?;
                let version: u64 = created.resource_version().context("a Tenant has no version")?.parse()?;
                anyhow::Ok((version, name, sent))
            }
        };
        let numbered = stream::iter(names.into_iter().enumerate());
        let created = async { numbered.map(create).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await };
        let (mut created, ready) = tokio::try_join!(created, ready)?;
        created.sort();
        let row = |(_, name, sent): &(u64, String, Duration)| {
            let seen = ready.get(name).context("a Tenant was not seen")?;
            anyhow::Ok((*sent, seen.duration_since(start)))
        };
        Ok(Timeline { rows: created.iter().map(row).collect::<anyhow::Result<_>>()? })
    }

    /// From the first request to the last Ready.
    pub(super) fn makespan(&self) -> f64 {
        self.rows.iter().map(|(_, ready)| ready.as_secs_f64()).fold(0.0, f64::max)
    }

    /// From the first request until the last one was sent.
    pub(super) fn last_sent(&self) -> f64 {
        self.rows.iter().map(|(sent, _)| sent.as_secs_f64()).fold(0.0, f64::max)
    }

    /// Seconds from apply to Ready, sorted.
    pub(super) fn latencies(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.rows.iter().map(|(sent, ready)| (*ready - *sent).as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// Seconds from the first request until a tenth of the Tenants was Ready.
    pub(super) fn first_tenth(&self) -> f64 {
        let mut all: Vec<f64> = self.rows.iter().map(|(_, ready)| ready.as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        crate::percentile(&all, 0.1)
    }

    /// For each tenth by creation, when its last Tenant was Ready, as a share of the makespan.
    pub(super) fn tenths(&self) -> Vec<f64> {
        let (count, makespan) = (self.rows.len(), self.makespan());
        let last = |k: usize| {
            let rows = &self.rows[count * (k - 1) / 10..count * k / 10];
            rows.iter().map(|(_, ready)| ready.as_secs_f64()).fold(0.0, f64::max) / makespan
        };
        (1..=10).map(last).collect()
    }
}

/// Watches from now on until all of these are Ready; returns when each was seen Ready. Fails after a time without changes.
fn watch_ready(
    api: &Api<DynamicObject>,
    names: BTreeSet<String>,
) -> impl Future<Output = anyhow::Result<HashMap<String, Instant>>> + use<> {
    let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
    // A separate task takes the time even while the caller is busy.
    let watching = tokio::spawn(async move {
        let (mut left, mut seen) = (names, HashMap::new());
        while !left.is_empty() {
            let next = tokio::time::timeout(TIMEOUT, events.try_next()).await;
            let object = next.map_err(|_| stuck(&left))??.context("the watch has ended")?;
            let now = Instant::now();
            if is_ready(&object.data) && left.remove(&object.name_any()) {
                seen.insert(object.name_any(), now);
            }
        }
        anyhow::Ok(seen)
    });
    async move { watching.await? }
}

/// Longest time without any change of any object.
const TIMEOUT: Duration = Duration::from_secs(60);

fn stuck(left: &BTreeSet<String>) -> anyhow::Error {
    let some: Vec<&str> = left.iter().map(String::as_str).take(5).collect();
    anyhow::anyhow!("{} objects are not Ready, and nothing changes any more: {}, …", left.len(), some.join(", "))
}

/// Whether an object has the condition Ready.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}
