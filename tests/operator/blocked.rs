//! Deletions that something outside holds up: it is said what, and once it is out of the way they finish.

use super::fleet::{Fleet, LONG};
use anyhow::Context as _;
use devkit::{Environment, PgVersion, Postgres, eventually};
use kube::api::{Patch, PatchParams};
use serde_json::json;

on_each_postgres!(
    a_dead_database_blocks_a_deletion_visibly_and_no_longer_than_it_is_dead,
    what_depends_on_a_tenants_data_blocks_its_drop_and_is_named,
);

/// Waits until a deletion is blocked for this reason; returns the message.
async fn wait_blocked(fleet: &Fleet, name: &str, reason: &str) -> anyhow::Result<String> {
    fleet.wait_condition(name, "DeletionBlocked", "True", reason).await?;
    let status = fleet.tenants.get(name).await?.status.unwrap_or_default();
    let condition = status.conditions.into_iter().find(|c| c.type_ == "DeletionBlocked").context("the condition")?;
    println!("{name}: {}", condition.message);
    eventually(LONG, "an event tells it", || async {
        let events = fleet.events(name, reason).await?;
        anyhow::ensure!(events.iter().any(|event| event.type_.as_deref() == Some("Warning")));
        Ok(())
    })
    .await?;
    Ok(condition.message)
}

async fn wait_gone(fleet: &Fleet, name: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("{name} is gone"), || async {
        let left = fleet.tenants.get_opt(name).await?;
        anyhow::ensure!(left.is_none(), "{:?}", left.and_then(|t| t.status).map(|s| s.conditions));
        Ok(())
    })
    .await
}

async fn a_dead_database_blocks_a_deletion_visibly_and_no_longer_than_it_is_dead(
    version: PgVersion,
) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let fleet = Fleet::on(Environment::shared().await?, &server).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let operator = fleet.operator("one").await?;
    for name in ["acme", "freed", "kept", "stays"] {
        fleet.tenant(name, if name == "kept" { "Retain" } else { "Delete" }).await?;
    }
    for name in ["acme", "freed", "kept", "stays"] {
        fleet.wait_ready(name).await?;
    }
    server.stop_immediate().await?;
    for name in ["acme", "freed", "kept"] {
        fleet.delete(name).await?;
    }
    for name in ["acme", "freed", "kept"] {
        wait_blocked(&fleet, name, "DatabaseUnavailable").await?;
    }
    // Out of service it is all the same; its keys and its entry stay until the data is dealt with.
    let mut entries = fleet.entries("tenant").await?;
    entries.sort();
    assert_eq!(entries, ["tenant-acme", "tenant-freed", "tenant-kept", "tenant-stays"]);
    for (name, state) in [("acme", "deleting"), ("kept", "deleting"), ("stays", "active")] {
        assert_eq!(fleet.entry(&format!("tenant-{name}")).await?["state"], state);
    }
    assert_eq!(fleet.condition("stays", "Ready").await?.0, "True", "an outage changes no word about what was ready");
    // The way out: whoever can't wait takes the finalizer off.
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    fleet.tenants.patch("freed", &PatchParams::default(), &nothing).await?;
    fleet.wait_gone("freed").await?;
    // Nor does a new operator find a way round.
    operator.process.kill_9().await?;
    let _operator = fleet.operator("one").await?;
    wait_blocked(&fleet, "acme", "DatabaseUnavailable").await?;
    server.start_again().await?;
    for name in ["acme", "kept"] {
        wait_gone(&fleet, name).await?;
    }
    // What is left of the one that was let go is cleared up, and its data is kept, whatever its policy said.
    eventually(LONG, "nothing but data is left of the one that was let go", || async {
        let (entries, kept) = (fleet.entries("tenant").await?, fleet.ledger("retained").await?);
        anyhow::ensure!(entries == ["tenant-stays"] && kept == ["freed", "kept"], "{entries:?}, {kept:?}");
        Ok(())
    })
    .await?;
    assert_eq!(fleet.ledger("dropped").await?, ["acme"]);
    assert_eq!(fleet.schemas().await?, ["freed", "kept", "stays"].map(|name| fleet.schema(name)));
    assert_eq!(fleet.key_secrets().await?, ["stays-signing-keys"]);
    fleet.wait_ready("stays").await
}

async fn what_depends_on_a_tenants_data_blocks_its_drop_and_is_named(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    // A report that somebody built on the tenant's messages.
    let schema = fleet.schema("acme");
    fleet.execute("CREATE SCHEMA reporting").await?;
    fleet.execute(&format!("CREATE VIEW reporting.daily AS SELECT id FROM {schema}.messages")).await?;
    fleet.delete("acme").await?;
    let message = wait_blocked(&fleet, "acme", "Conflict").await?;
    assert!(message.contains("reporting.daily"), "{message}");
    assert_eq!(fleet.schemas().await?, [schema.as_str()], "nothing was dropped");
    assert_eq!(fleet.column("SELECT id::text FROM reporting.daily".into()).await?.len(), 0);

    fleet.execute("DROP VIEW reporting.daily").await?;
    // A conflict is looked at again every five minutes; a change of the object is looked at now.
    let patch = json!({ "spec": { "displayName": "mended" } });
    fleet.tenants.patch("acme", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    wait_gone(&fleet, "acme").await?;
    assert_eq!(fleet.ledger("dropped").await?, ["acme"]);
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    assert_eq!(fleet.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(fleet.key_secrets().await?, Vec::<String>::new());
    Ok(())
}
