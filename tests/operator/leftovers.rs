//! Objects that vanish without the operator: what was made for them goes, what is anybody's data stays.

use super::{
    fleet::{Fleet, LONG},
    stories::{settle, sum},
};
use devkit::{Asked, Fault, PgVersion, eventually};
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

impl Fleet {
    /// Takes the finalizer off and deletes: the object is gone before anybody could look.
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

/// While no operator runs: Tenants and an AgentConfig vanish, one with its entry, so that the ledger alone knows of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_objects_that_vanished_goes_and_their_data_is_kept() -> anyhow::Result<()> {
    let fleet = Fleet::new(PgVersion::NEWEST).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let operator = fleet.operator("one").await?;
    for name in ["entry", "ledger", "lives"] {
        fleet.tenant(name, "Delete").await?;
    }
    for name in ["entry", "ledger", "lives"] {
        fleet.wait_ready(name).await?;
    }
    operator.process.kill_9().await?;
    fleet.vanish("entry").await?;
    fleet.vanish("ledger").await?;
    fleet.registry.delete("tenant-ledger", &DeleteParams::default()).await?;
    // A row of a namespace that this operator does not look after.
    fleet
        .execute(
            "INSERT INTO agent_tenancy.tenants SELECT (jsonb_populate_record(t, jsonb_build_object('tenant_id', 'far', \
             'incarnation', gen_random_uuid(), 'uid', 'uid-far', 'namespace', 'elsewhere', 'name', 'far', \
             'schema_name', 'far', 'role_name', 'far'))).* FROM agent_tenancy.tenants t WHERE t.tenant_id = 'lives'",
        )
        .await?;

    let operator = fleet.operator("one").await?;
    fleet.wait_retained(&["entry", "ledger"]).await?;
    fleet.wait_ready("lives").await?;
    assert_eq!(fleet.ledger("active").await?, ["far", "lives"]);
    assert_eq!(fleet.schemas().await?, ["entry", "ledger", "lives"].map(|n| fleet.schema(n)));
    let access = format!(
        "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
         JOIN pg_roles a ON a.oid = m.member WHERE a.rolname = '{}' ORDER BY 1",
        fleet.schema("acc_1")
    );
    assert_eq!(fleet.column(access).await?, [fleet.schema("lives")], "nobody gets at kept data");

    // While it runs: it sees the object go.
    fleet.tenant("seen", "Retain").await?;
    fleet.wait_ready("seen").await?;
    fleet.vanish("seen").await?;
    fleet.wait_retained(&["entry", "ledger", "seen"]).await?;
    // The same name again: the kept data is nobody's but a person's to give.
    fleet.tenant("seen", "Delete").await?;
    fleet.wait_condition("seen", "Accepted", "False", "Retained").await?;
    fleet.delete("seen").await?;

    // The AgentConfig of a tenant that lives vanishes: it is kept while it is run, and goes with its last user.
    let uid = fleet.agents.get("support").await?.metadata.uid.unwrap_or_default();
    let nothing = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    fleet.agents.delete("support", &DeleteParams::default()).await?;
    fleet.agents.patch("support", &PatchParams::default(), &nothing).await?;
    fleet.wait_condition("lives", "Accepted", "False", "AgentConfigMissing").await?;
    assert_eq!(fleet.entries("agent").await?, [format!("agent-{uid}")]);
    fleet.delete("lives").await?;
    eventually(LONG, "the entry of the AgentConfig is gone", || async {
        let left = fleet.entries("agent").await?;
        anyhow::ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    fleet.wait_no_tenants().await?;

    // And then it rests.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let requests = operator.requests_since(&before).await?;
    assert_eq!((sum(&requests, &WRITES), operator.round_trips().await? - trips), (0, 0), "{requests:?}");
    Ok(())
}

/// A Tenant is deleted, and vanishes while the pass of its deletion still waits for the API server. Another pass sees to the
/// end; the first one, with what it saw before, puts nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_pass_puts_nothing_back_that_went_meanwhile() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::NEWEST).await?;
    let proxy = fleet.through_proxy().await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("acme", "Retain").await?;
    fleet.wait_ready("acme").await?;
    settle(&fleet).await?;

    let held = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&held);
    proxy.inject(move |asked: &Asked| {
        let keys = (asked.verb, asked.resource.as_str()) == ("get", "secrets");
        (keys && asks.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::Late(Duration::from_secs(2)))
    });
    let made = || proxy.seen().get("create secrets").copied();
    let before = made();
    fleet.delete("acme").await?;
    eventually(LONG, "the pass of the deletion looks for the keys", || async {
        anyhow::ensure!(held.load(Ordering::Relaxed) > 0);
        Ok(())
    })
    .await?;
    fleet.vanish("acme").await?;
    fleet.wait_retained(&["acme"]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.heal();
    fleet.wait_retained(&["acme"]).await?;
    settle(&fleet).await?;
    assert_eq!((fleet.entries("tenant").await?, made()), (Vec::<String>::new(), before));
    Ok(())
}
