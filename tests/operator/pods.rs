//! Replicas are the Pods of the chart's Deployment: who counts is what a kubelet says, who serves is what a replica says.

use super::{
    fleet::{Fleet, LONG},
    node::{Node, Probe},
};
use devkit::{Environment, PgVersion, Postgres, eventually};
use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::json;

on_each_postgres!(
    a_ready_pod_proves_that_a_tenant_is_served,
    a_pod_that_never_answers_holds_a_deletion_up_for_a_while_and_is_named,
);

async fn fleet_of_pods(version: PgVersion) -> anyhow::Result<Fleet> {
    // The chart's own setting: replicas are Pods.
    Fleet::with(Environment::shared().await?, &Postgres::shared(version).await?, json!({})).await
}

async fn a_ready_pod_proves_that_a_tenant_is_served(version: PgVersion) -> anyhow::Result<()> {
    let fleet = fleet_of_pods(version).await?;
    let (node, pods) = Node::new(&fleet).await?;
    let [a, b] = pods.as_slice() else { anyhow::bail!("the chart asks for {} Pods", pods.len()) };
    let (_first, second) = tokio::try_join!(node.start(a), node.start(b))?;
    let _operator = fleet.operator("one").await?;
    fleet.agent("support", "You help.").await?;
    fleet.tenant("early", "Delete").await?;
    // Both processes acknowledge it, and no Pod is said to be Ready: nobody would be sent a request.
    fleet.wait_condition("early", "Served", "Unknown", "NoReplicas").await?;
    node.say(a, Probe::NotReady).await?;
    node.say(b, Probe::NotReady).await?;
    fleet.wait_condition("early", "Published", "True", "Published").await?;
    assert_eq!(fleet.condition("early", "Served").await?.1, "NoReplicas");
    node.say(a, Probe::Ready).await?;
    fleet.wait_ready("early").await?;

    // A Ready Pod whose process hangs is waited for, by name, until it is not Ready any more.
    node.say(b, Probe::Ready).await?;
    second.pause();
    fleet.tenant("late", "Delete").await?;
    fleet.wait_condition("late", "Served", "Unknown", "WaitingForReplicas").await?;
    let note = fleet.message("late", "Served").await?;
    assert!(note.contains(&b.name_any()), "{note}");
    node.say(b, Probe::NotReady).await?;
    fleet.wait_ready("late").await?;

    // Back again, it takes part again.
    second.resume();
    node.say(b, Probe::Ready).await?;
    fleet.tenant("later", "Delete").await?;
    fleet.wait_ready("later").await
}

async fn a_pod_that_never_answers_holds_a_deletion_up_for_a_while_and_is_named(
    version: PgVersion,
) -> anyhow::Result<()> {
    let fleet = fleet_of_pods(version).await?;
    let (node, pods) = Node::new(&fleet).await?;
    let [a, b] = pods.as_slice() else { anyhow::bail!("the chart asks for {} Pods", pods.len()) };
    let (_first, second) = tokio::try_join!(node.start(a), node.start(b))?;
    node.say(a, Probe::Ready).await?;
    node.say(b, Probe::Ready).await?;
    let _operator = fleet.operator("one").await?;
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "globex", "initech"] {
        fleet.tenant(name, "Delete").await?;
    }
    for name in ["acme", "globex", "initech"] {
        fleet.wait_ready(name).await?;
    }
    // It gets no requests any more, but its container runs: it may still be busy with one.
    second.pause();
    node.say(b, Probe::NotReady).await?;
    fleet.delete("acme").await?;
    eventually(LONG, "the deletion says whom it waits for", || async {
        let note = fleet.message("acme", "Ready").await?;
        anyhow::ensure!(note.contains(&b.name_any()), "{note}");
        Ok(())
    })
    .await?;
    assert_eq!(fleet.ledger("active").await?, ["acme", "globex", "initech"]);
    fleet.wait_gone("acme").await?;
    assert_eq!(fleet.ledger("dropped").await?, ["acme"]);
    let told = replicas_timed_out(&fleet, "acme").await?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&b.name_any()) && !told[0].contains(&a.name_any()), "{told:?}");

    // A Pod takes its acknowledgement along, and nobody waits for it any more.
    let leases: Api<Lease> = Api::namespaced(fleet.env.client().await?, fleet.release.namespace());
    let lease = format!("agent-api-{}", b.name_any());
    let owners = leases.get(&lease).await?.metadata.owner_references.unwrap_or_default();
    assert_eq!(
        owners.iter().map(|o| (o.kind.as_str(), o.uid.clone())).collect::<Vec<_>>(),
        [("Pod", b.uid().unwrap_or_default())]
    );
    node.remove(b).await?;
    fleet.delete("globex").await?;
    fleet.wait_gone("globex").await?;
    assert_eq!(replicas_timed_out(&fleet, "globex").await?, Vec::<String>::new());
    eventually(LONG, "the Lease went with its Pod", || async {
        anyhow::ensure!(leases.get_opt(&lease).await?.is_none());
        Ok(())
    })
    .await?;
    fleet.wait_ready("initech").await
}

/// Notes of the events which say that a deletion went on without a replica.
async fn replicas_timed_out(fleet: &Fleet, tenant: &str) -> anyhow::Result<Vec<String>> {
    let events: Api<Event> = Api::namespaced(fleet.env.client().await?, fleet.tenants.namespace().unwrap_or_default());
    let all = events.list(&ListParams::default()).await?.items;
    let about = |event: &Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(tenant);
    let found = all.into_iter().filter(|e| about(e) && e.reason.as_deref() == Some("ReplicaPassedOver"));
    Ok(found.filter_map(|event| event.note).collect())
}
