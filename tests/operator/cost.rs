//! What a tenant costs: requests to the API server and round trips to the database. A converged fleet costs nothing.

use super::{
    installation::{Installation, LONG},
    installation_state::settle,
};
use devkit::{PgVersion, eventually};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

on_each_postgres!(a_tenant_costs_little_and_a_converged_fleet_is_silent);

const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
const READS: [&str; 2] = ["get", "list"];

async fn a_tenant_costs_little_and_a_converged_fleet_is_silent(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let operator = installation.operator("one").await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    // The first tenant makes the cell.
    installation.tenant("first", "Delete").await?;
    installation.wait_ready("first").await?;
    // It has done what is only done after a start.
    eventually(LONG, "the operator asks for nothing", || async {
        let before = operator.metrics().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let requests = operator.requests_since(&before).await?;
        anyhow::ensure!(requests.is_empty(), "{requests:?}");
        Ok(())
    })
    .await?;

    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    let applied = Instant::now();
    installation.tenant("second", "Delete").await?;
    installation.wait_ready("second").await?;
    let took = applied.elapsed();
    settle(&installation).await?;
    let requests = operator.requests_since(&before).await?;
    let trips = operator.round_trips().await? - trips;
    println!("one tenant: ready after {took:.0?}, {trips} SQL round trips, requests {requests:?}");
    assert!(sum(&requests, &WRITES) <= 6, "{requests:?}");
    assert!(sum(&requests, &READS) <= 2, "{requests:?}");
    assert_eq!(trips, 3);

    // A change of an AgentConfig costs the same for any number of tenants, and no Tenant is written.
    let versions = installation.version_of_all().await?;
    let before = operator.metrics().await?;
    installation.agent("support", "You help gladly.").await?;
    eventually(LONG, "revision 2 is served", || async {
        let agent = installation.agents.get("support").await?;
        let status = agent.status.unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        anyhow::ensure!(status.revision == Some(2) && ready, "{:?}", status.revision);
        Ok(())
    })
    .await?;
    settle(&installation).await?;
    let requests = operator.requests_since(&before).await?;
    println!("one AgentConfig change: requests {requests:?}");
    assert!(sum(&requests, &WRITES) <= 5, "{requests:?}");
    let changed: Vec<_> = installation
        .version_of_all()
        .await?
        .into_iter()
        .filter(|(name, v)| versions.get(name) != Some(v))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(changed.len(), 2, "the AgentConfig and its entry: {changed:?}");

    // Nothing is written when converged, nor after a restart.
    let versions = installation.version_of_all().await?;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(operator.requests_since(&before).await?.len(), 0);
    assert_eq!(operator.round_trips().await?, trips);
    operator.process.kill_9().await?;
    let again = installation.operator("one").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = again.requests_since(&Default::default()).await?;
    assert_eq!(sum(&requests, &WRITES), 0, "{requests:?}");
    assert_eq!(installation.version_of_all().await?, versions);

    Ok(())
}

/// Sums the requests of these verbs.
pub fn sum(requests: &BTreeMap<String, u64>, verbs: &[&str]) -> u64 {
    let counted = |labels: &str| verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
    requests.iter().filter(|(labels, _)| counted(labels)).map(|(_, n)| n).sum()
}
