//! Deletions that are blocked from outside: the condition names the cause, and the deletion finishes when it is gone.

use super::installation::{Installation, LONG};
use anyhow::Context as _;
use devkit::{Environment, PgVersion, Postgres, eventually};
use kube::api::{Patch, PatchParams};
use serde_json::json;

on_each_postgres!(
    a_database_that_is_down_blocks_deletions_until_it_is_back,
    objects_that_depend_on_a_tenants_data_block_its_deletion_and_are_named,
);

/// Waits until a deletion is blocked for this reason; returns the message.
async fn wait_blocked(installation: &Installation, name: &str, reason: &str) -> anyhow::Result<String> {
    installation.wait_condition(name, "DeletionBlocked", "True", reason).await?;
    let status = installation.tenants.get(name).await?.status.unwrap_or_default();
    let condition = status.conditions.into_iter().find(|c| c.type_ == "DeletionBlocked").context("the condition")?;
    println!("{name}: {}", condition.message);
    eventually(LONG, "an event reports it", || async {
        let events = installation.events(name, reason).await?;
        anyhow::ensure!(events.iter().any(|event| event.type_.as_deref() == Some("Warning")));
        Ok(())
    })
    .await?;
    Ok(condition.message)
}

async fn wait_gone(installation: &Installation, name: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("{name} is gone"), || async {
        let left = installation.tenants.get_opt(name).await?;
        anyhow::ensure!(left.is_none(), "{:?}", left.and_then(|t| t.status).map(|s| s.conditions));
        Ok(())
    })
    .await
}

async fn a_database_that_is_down_blocks_deletions_until_it_is_back(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let installation = Installation::on(Environment::shared().await?, &server).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let operator = installation.operator("one").await?;
    for name in ["acme", "freed", "kept", "stays"] {
        installation.tenant(name, if name == "kept" { "Retain" } else { "Delete" }).await?;
    }
    for name in ["acme", "freed", "kept", "stays"] {
        installation.wait_ready(name).await?;
    }
    server.stop_immediate().await?;
    for name in ["acme", "freed", "kept"] {
        installation.delete(name).await?;
    }
    for name in ["acme", "freed", "kept"] {
        wait_blocked(&installation, name, "DatabaseUnavailable").await?;
    }
    // They are out of service already. Keys and entry stay until the data is dealt with.
    let mut entries = installation.entries("tenant").await?;
    entries.sort();
    assert_eq!(entries, ["tenant-acme", "tenant-freed", "tenant-kept", "tenant-stays"]);
    for (name, state) in [("acme", "deleting"), ("kept", "deleting"), ("stays", "active")] {
        assert_eq!(installation.entry(&format!("tenant-{name}")).await?["state"], state);
    }
    assert_eq!(
        installation.condition("stays", "Ready").await?.0,
        "True",
        "an outage does not change the conditions of a ready tenant"
    );
    // An impatient user removes the finalizer.
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    installation.tenants.patch("freed", &PatchParams::default(), &nothing).await?;
    installation.wait_gone("freed").await?;
    // A new operator is blocked in the same way.
    operator.process.kill_9().await?;
    let _operator = installation.operator("one").await?;
    wait_blocked(&installation, "acme", "DatabaseUnavailable").await?;
    server.start_again().await?;
    for name in ["acme", "kept"] {
        wait_gone(&installation, name).await?;
    }
    // The remains of the Tenant without a finalizer are cleaned up. Its data is retained, whatever its policy was.
    eventually(LONG, "only the data is left of the Tenant without a finalizer", || async {
        let (entries, kept) = (installation.entries("tenant").await?, installation.ledger("retained").await?);
        anyhow::ensure!(entries == ["tenant-stays"] && kept == ["freed", "kept"], "{entries:?}, {kept:?}");
        Ok(())
    })
    .await?;
    assert_eq!(installation.ledger("dropped").await?, ["acme"]);
    assert_eq!(installation.schemas().await?, ["freed", "kept", "stays"].map(|name| installation.schema(name)));
    assert_eq!(installation.key_secrets().await?, ["stays-signing-keys"]);
    installation.wait_ready("stays").await
}

async fn objects_that_depend_on_a_tenants_data_block_its_deletion_and_are_named(
    version: PgVersion,
) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    // A view on the tenant's messages that somebody else made.
    let schema = installation.schema("acme");
    installation.execute("CREATE SCHEMA reporting").await?;
    installation.execute(&format!("CREATE VIEW reporting.daily AS SELECT id FROM {schema}.messages")).await?;
    installation.delete("acme").await?;
    let message = wait_blocked(&installation, "acme", "Conflict").await?;
    assert!(message.contains("reporting.daily"), "{message}");
    assert_eq!(installation.schemas().await?, [schema.as_str()], "nothing was dropped");
    assert_eq!(installation.column("SELECT id::text FROM reporting.daily").await?.len(), 0);

    installation.execute("DROP VIEW reporting.daily").await?;
    // A conflict is reconciled again after five minutes; a change of the object is reconciled at once.
    let patch = json!({ "spec": { "displayName": "repaired" } });
    installation.tenants.patch("acme", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    wait_gone(&installation, "acme").await?;
    assert_eq!(installation.ledger("dropped").await?, ["acme"]);
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(installation.key_secrets().await?, Vec::<String>::new());
    Ok(())
}
