//! Replicas are the Pods of the chart's Deployment: a Pod counts when it is Ready, and serves what its Lease acknowledges.

use super::{
    installation::{Installation, LONG},
    node::{Node, Probe},
};
use devkit::{Environment, PgVersion, Postgres, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt as _};
use serde_json::json;

on_each_postgres!(
    a_ready_pod_proves_that_a_tenant_is_served,
    a_pod_that_never_acknowledges_delays_a_deletion_and_is_named,
);

async fn installation_of_pods(version: PgVersion) -> anyhow::Result<Installation> {
    // The chart's default: replicas are Pods.
    Installation::with(Environment::shared().await?, &Postgres::shared(version).await?, json!({})).await
}

async fn a_ready_pod_proves_that_a_tenant_is_served(version: PgVersion) -> anyhow::Result<()> {
    let installation = installation_of_pods(version).await?;
    let (node, pods) = Node::new(&installation).await?;
    let [a, b] = pods.as_slice() else { anyhow::bail!("the chart asks for {} Pods", pods.len()) };
    let (_first, second) = tokio::try_join!(node.start(a), node.start(b))?;
    let _operator = installation.operator("one").await?;
    installation.agent("support", "You help.").await?;
    installation.tenant("early", "Delete").await?;
    // Both processes acknowledge it, but no Pod is Ready, so that no request would be sent to one.
    installation.wait_condition("early", "Served", "Unknown", "NoReplicas").await?;
    node.set_probe(a, Probe::NotReady).await?;
    node.set_probe(b, Probe::NotReady).await?;
    installation.wait_condition("early", "Published", "True", "Published").await?;
    assert_eq!(installation.condition("early", "Served").await?.1, "NoReplicas");
    node.set_probe(a, Probe::Ready).await?;
    installation.wait_ready("early").await?;

    // The operator waits for a Ready Pod with a hanging process, and names it, until it is no longer Ready.
    node.set_probe(b, Probe::Ready).await?;
    second.pause();
    installation.tenant("late", "Delete").await?;
    installation.wait_condition("late", "Served", "Unknown", "WaitingForReplicas").await?;
    let note = installation.message("late", "Served").await?;
    assert!(note.contains(&b.name_any()), "{note}");
    node.set_probe(b, Probe::NotReady).await?;
    installation.wait_ready("late").await?;

    // When it is back, it counts again.
    second.resume();
    node.set_probe(b, Probe::Ready).await?;
    installation.tenant("later", "Delete").await?;
    installation.wait_ready("later").await
}

async fn a_pod_that_never_acknowledges_delays_a_deletion_and_is_named(version: PgVersion) -> anyhow::Result<()> {
    let installation = installation_of_pods(version).await?;
    let (node, pods) = Node::new(&installation).await?;
    let [a, b] = pods.as_slice() else { anyhow::bail!("the chart asks for {} Pods", pods.len()) };
    let (_first, second) = tokio::try_join!(node.start(a), node.start(b))?;
    node.set_probe(a, Probe::Ready).await?;
    node.set_probe(b, Probe::Ready).await?;
    let _operator = installation.operator("one").await?;
    installation.agent("support", "You help.").await?;
    for name in ["acme", "globex", "initech"] {
        installation.tenant(name, "Delete").await?;
    }
    for name in ["acme", "globex", "initech"] {
        installation.wait_ready(name).await?;
    }
    // It gets no new requests, but its container runs and may still be busy with one.
    second.pause();
    node.set_probe(b, Probe::NotReady).await?;
    installation.delete("acme").await?;
    eventually(LONG, "the message names the Pod that it waits for", || async {
        let note = installation.message("acme", "Ready").await?;
        anyhow::ensure!(note.contains(&b.name_any()), "{note}");
        Ok(())
    })
    .await?;
    assert_eq!(installation.ledger("active").await?, ["acme", "globex", "initech"]);
    installation.wait_gone("acme").await?;
    assert_eq!(installation.ledger("dropped").await?, ["acme"]);
    let notes = replicas_timed_out(&installation, "acme").await?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains(&b.name_any()) && !notes[0].contains(&a.name_any()), "{notes:?}");

    // The acknowledgement is deleted with its Pod, which is not waited for any more.
    let leases: Api<Lease> = Api::namespaced(installation.env.client().await?, installation.release.namespace());
    let lease = format!("agent-api-{}", b.name_any());
    let owners = leases.get(&lease).await?.metadata.owner_references.unwrap_or_default();
    assert_eq!(
        owners.iter().map(|o| (o.kind.as_str(), o.uid.clone())).collect::<Vec<_>>(),
        [("Pod", b.uid().unwrap_or_default())]
    );
    node.remove(b).await?;
    installation.delete("globex").await?;
    installation.wait_gone("globex").await?;
    assert_eq!(replicas_timed_out(&installation, "globex").await?, Vec::<String>::new());
    eventually(LONG, "the Lease is deleted with its Pod", || async {
        anyhow::ensure!(leases.get_opt(&lease).await?.is_none());
        Ok(())
    })
    .await?;
    installation.wait_ready("initech").await
}

/// Notes of the events which say that a deletion continued without a replica.
async fn replicas_timed_out(installation: &Installation, tenant: &str) -> anyhow::Result<Vec<String>> {
    installation.notes(tenant, "ReplicaTimedOut").await
}
