//! Objects that vanish without their finalizer: what was made for them is deleted, and their data is retained.

use super::{
    cost::sum,
    installation::{Installation, LONG},
    installation_state::settle,
};
use devkit::{ApiRequest, Fault, PgVersion, eventually};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];

impl Installation {
    /// Removes the finalizer and deletes: the object is gone before the operator can reconcile it.
    async fn vanish(&self, name: &str) -> anyhow::Result<()> {
        self.delete(name).await?;
        let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        // The operator may have been faster.
        let _ = self.tenants.patch(name, &PatchParams::default(), &nothing).await;
        anyhow::ensure!(self.tenants.get_opt(name).await?.is_none(), "{name} is still there");
        Ok(())
    }

    async fn wait_retained(&self, names: &[&str]) -> anyhow::Result<()> {
        eventually(LONG, &format!("the data of {names:?} is kept, and nothing else is left"), || async {
            let (kept, keys, entries) =
                (self.ledger("retained").await?, self.key_secrets().await?, self.entries("tenant").await?);
            let left = keys.iter().chain(&entries).filter(|s| names.iter().any(|n| s.contains(n)));
            let left: Vec<_> = left.collect();
            anyhow::ensure!(kept == names && left.is_empty(), "kept {kept:?}, left {left:?}");
            Ok(())
        })
        .await
    }
}

/// Tenants vanish while no operator runs; one of them with its entry, so that only the ledger knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_remains_of_vanished_objects_are_deleted_and_their_data_is_kept() -> anyhow::Result<()> {
    let installation = Installation::new(PgVersion::NEWEST).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let operator = installation.operator("one").await?;
    for name in ["entry", "ledger", "lives"] {
        installation.tenant(name, "Delete").await?;
    }
    for name in ["entry", "ledger", "lives"] {
        installation.wait_ready(name).await?;
    }
    operator.process.kill_9().await?;
    installation.vanish("entry").await?;
    installation.vanish("ledger").await?;
    installation.registry.delete("tenant-ledger", &DeleteParams::default()).await?;
    // A row of a namespace that this operator does not watch.
    installation
        .execute(
            "INSERT INTO agent_tenancy.tenants SELECT (jsonb_populate_record(t, jsonb_build_object('tenant_id', 'far', \
             'incarnation', gen_random_uuid(), 'uid', 'uid-far', 'namespace', 'elsewhere', 'name', 'far', \
             'schema_name', 'far', 'role_name', 'far'))).* FROM agent_tenancy.tenants t WHERE t.tenant_id = 'lives'",
        )
        .await?;

    let operator = installation.operator("one").await?;
    installation.wait_retained(&["entry", "ledger"]).await?;
    installation.wait_ready("lives").await?;
    assert_eq!(installation.ledger("active").await?, ["far", "lives"]);
    assert_eq!(installation.schemas().await?, ["entry", "ledger", "lives"].map(|n| installation.schema(n)));
    let access = format!(
        "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
         JOIN pg_roles a ON a.oid = m.member WHERE a.rolname = '{}' ORDER BY 1",
        installation.schema("acc_1")
    );
    assert_eq!(
        installation.column(access).await?,
        [installation.schema("lives")],
        "no role has access to retained data"
    );

    // A Tenant vanishes while the operator runs.
    installation.tenant("seen", "Retain").await?;
    installation.wait_ready("seen").await?;
    installation.vanish("seen").await?;
    installation.wait_retained(&["entry", "ledger", "seen"]).await?;
    // The same name again: only a user can decide about the retained data.
    installation.tenant("seen", "Delete").await?;
    installation.wait_condition("seen", "Accepted", "False", "Retained").await?;
    installation.delete("seen").await?;

    // The AgentConfig of a live tenant vanishes: its entry stays until its last tenant is deleted.
    let uid = installation.agents.get("support").await?.metadata.uid.unwrap_or_default();
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    installation.agents.delete("support", &DeleteParams::default()).await?;
    installation.agents.patch("support", &PatchParams::default(), &nothing).await?;
    installation.wait_condition("lives", "Accepted", "False", "AgentConfigMissing").await?;
    assert_eq!(installation.entries("agent").await?, [format!("agent-{uid}")]);
    installation.delete("lives").await?;
    eventually(LONG, "the entry of the AgentConfig is gone", || async {
        let left = installation.entries("agent").await?;
        anyhow::ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    installation.wait_no_tenants().await?;

    // Then nothing is written any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let requests = operator.requests_since(&before).await?;
    assert_eq!((sum(&requests, &WRITES), operator.round_trips().await? - trips), (0, 0), "{requests:?}");
    Ok(())
}

/// A Tenant is deleted, and vanishes while the reconcile of its deletion still waits for the API server. Another reconcile
/// finishes the deletion; the first one, which works with older observations, writes nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reconcile_writes_nothing_back_that_was_deleted_meanwhile() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::NEWEST).await?;
    let proxy = installation.through_proxy().await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("acme", "Retain").await?;
    installation.wait_ready("acme").await?;
    settle(&installation).await?;

    let held = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&held);
    proxy.inject(move |asked: &ApiRequest| {
        let keys = (asked.verb, asked.resource.as_str()) == ("get", "secrets");
        (keys && asks.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::Late(Duration::from_secs(2)))
    });
    let made = || proxy.seen().get("create secrets").copied();
    let before = made();
    installation.delete("acme").await?;
    eventually(LONG, "the reconcile of the deletion reads the keys", || async {
        anyhow::ensure!(held.load(Ordering::Relaxed) > 0);
        Ok(())
    })
    .await?;
    installation.vanish("acme").await?;
    installation.wait_retained(&["acme"]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.heal();
    installation.wait_retained(&["acme"]).await?;
    settle(&installation).await?;
    assert_eq!((installation.entries("tenant").await?, made()), (Vec::<String>::new(), before));
    Ok(())
}
