//! A database that is down or replaced, an API server that restarts, a replica that dies.

use super::installation::Installation;
use anyhow::Context as _;
use devkit::{Environment, Options, PgVersion, Postgres};
use serde_json::json;
use tokio::sync::Barrier;

on_each_postgres!(a_database_that_is_down_or_replaced_costs_no_data);

async fn a_database_that_is_down_or_replaced_costs_no_data(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let installation = Installation::on(Environment::shared().await?, &server).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    server.stop_immediate().await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_condition("acme", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    server.start_again().await?;
    installation.wait_ready("acme").await?;

    // An outage does not change the conditions of a ready tenant.
    server.stop_immediate().await?;
    installation.tenant("later", "Delete").await?;
    installation.wait_condition("later", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    assert_eq!(installation.condition("acme", "Ready").await?.0, "True");
    server.start_again().await?;
    installation.wait_ready("later").await?;
    assert_eq!(installation.ledger("active").await?, ["acme", "later"]);

    // An empty, bootstrapped database in place of the real one: nothing is created in it, not even for new Tenants.
    server.replace_with_empty_cluster().await?;
    installation.database.create_again(&server).await?;
    installation.tenant("stray", "Delete").await?;
    installation.wait_condition("stray", "DatabaseReady", "False", "DatabaseChanged").await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    assert_eq!(
        installation.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'agent_tenancy'").await?.len(),
        0
    );
    server.put_back_cluster().await?;
    installation.wait_ready("stray").await?;
    assert_eq!(installation.ledger("active").await?, ["acme", "later", "stray"]);
    Ok(())
}

/// Both installations share one control plane, which is expensive to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_the_api_server_and_dead_replicas_only_delay_tenants() -> anyhow::Result<()> {
    // Without an audit log: a restarted API server denies everything until it has read the roles.
    let options = Options { postgres: vec![], ..Options::default() };
    let env = Environment::start(options).await?;
    let back = Barrier::new(2);
    let scenario = async |version| {
        // On a busy machine a restart takes longer than the usual Lease, and an operator that loses its Lease ends.
        let settings = json!({ "agentApi": { "replicaSource": "Leases" }, "leaderElection": { "leaseSeconds": 90 } });
        let installation = Installation::with(&env, &Postgres::shared(version).await?, settings).await?;
        through_a_restart_and_a_death(&installation, &back).await.with_context(|| format!("on Postgres {version}"))
    };
    tokio::try_join!(scenario(PgVersion::OLDEST), scenario(PgVersion::NEWEST)).map(drop)
}

async fn through_a_restart_and_a_death(installation: &Installation, both: &Barrier) -> anyhow::Result<()> {
    let steady = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let operator = installation.operator("one").await?;
    both.wait().await;
    let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    for name in &names[..4] {
        installation.tenant(name, "Delete").await?;
    }
    if both.wait().await.is_leader() {
        installation.env.apiserver()?.restart().await?;
    }
    both.wait().await;
    for name in &names[..4] {
        installation.wait_ready(name).await?;
    }
    assert_eq!(operator.process.exit_status(), None, "a restart of the API server is shorter than the Lease");
    assert_eq!(steady.process.exit_status(), None);

    // A replica is killed while it applies an entry. Once its Lease is stale, it is not waited for.
    let doomed = installation.replica().await?;
    for name in &names[4..] {
        installation.tenant(name, "Delete").await?;
    }
    doomed.process.kill_9().await?;
    for name in &names[4..] {
        installation.wait_ready(name).await?;
    }
    assert_eq!(installation.ledger("active").await?, names);
    for name in &names {
        installation.delete(name).await?;
    }
    installation.wait_no_tenants().await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    Ok(())
}
