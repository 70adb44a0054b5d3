//! Faults at random between our programs and the API server, for as long as tenants are made, changed and deleted. Then
//! they end, and everything has to be as if there had been none.

use super::{
    fleet::{Fleet, LONG},
    stories::settle,
};
use devkit::{Asked, Chaos, Fault, PgVersion, Proxy, WatchFault, eventually};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{cell::Cell, collections::BTreeMap, time::Duration};

on_each_postgres!(nothing_is_made_for_a_tenant_that_goes_before_its_finalizer_is_on,);

/// The chart's Deployment would start it again; what it would lose is time, and it is exactly when much goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_while_an_operator_starts_only_holds_it_up() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::NEWEST).await?;
    let proxy = fleet.through_proxy().await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    fleet.tenant("early", "Delete").await?;
    let asks_for_the_cluster = |asked: &Asked| asked.name.as_deref() == Some("kube-system");
    proxy.inject(move |asked| asks_for_the_cluster(asked).then_some(Fault::Refused(500)));
    let operator = fleet.spawn_operator("one")?;
    eventually(Duration::from_secs(30), "it has asked more than once", || async {
        let times: u64 = proxy.injected().values().sum();
        anyhow::ensure!(times > 1, "{times} times; {:?}: {}", operator.process.exit_status(), operator.process.log());
        Ok(())
    })
    .await?;
    proxy.heal();
    fleet.wait_ready("early").await?;
    assert_eq!(operator.process.exit_status(), None);
    Ok(())
}

/// Tenants that are made; some of them are deleted again.
const TENANTS: usize = 16;
/// Share of the requests that go wrong, in percent.
const SHARE: u64 = 20;
/// Longer than our programs wait for a reply.
const LATE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_at_random_cost_time_and_nothing_else() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::OLDEST).await?;
    let proxy = fleet.through_proxy().await?;
    let _replicas = [fleet.replica().await?, fleet.replica().await?];
    let restarts = Cell::new(0);
    // As a kubelet would: an operator that lost its Lease ends, and is started again.
    let kept = async {
        loop {
            let running = fleet.spawn_operator("one")?;
            let status = running.process.ended().await?;
            println!("the operator ended ({status}) and is started again: {}", last_line(&running.process.log()));
            restarts.set(restarts.get() + 1);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let story = story(&fleet, &proxy);
    tokio::select! {
        ended = kept => ended,
        told = story => {
            println!("{} restarts", restarts.get());
            told
        }
    }
}

async fn story(fleet: &Fleet, proxy: &Proxy) -> anyhow::Result<()> {
    let names: Vec<String> = (0..TENANTS).map(|n| format!("t{n:02}")).collect();
    let chaos = Chaos::new("FAULT_SEED", SHARE, LATE)?;
    proxy.inject(move |asked| chaos.decide(asked));
    fleet.agent("support", "You help.").await?;
    for name in &names {
        fleet.tenant(name, "Delete").await?;
    }
    break_watches(proxy).await;
    let (deleted, kept): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.ends_with(['3', '7']));
    fleet.agent("support", "You help gladly.").await?;
    for (n, name) in kept.iter().enumerate() {
        let patch = json!({ "spec": { "tenantMutable": ["Temperature"], "displayName": format!("Tenant {n}") } });
        fleet.tenants.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    for name in &deleted {
        fleet.delete(name).await?;
    }
    break_watches(proxy).await;
    proxy.heal();
    println!("injected: {:?}", proxy.injected());
    let healed = std::time::Instant::now();
    for name in &kept {
        wait_current(fleet, name).await?;
    }
    for name in &deleted {
        eventually(LONG, &format!("{name} is gone"), || async {
            anyhow::ensure!(fleet.tenants.get_opt(name).await?.is_none());
            Ok(())
        })
        .await?;
    }
    println!("everything has converged {:.1?} after the last fault", healed.elapsed());
    wait_agent(fleet).await?;
    whole(fleet, &kept, &deleted).await?;
    assert!(proxy.injected().len() >= 10, "too few kinds of faults: {:?}", proxy.injected());

    // At rest: nobody writes, neither the operator nor the replicas; their Leases apart.
    settle(fleet).await?;
    let (versions, seen) = (fleet.version_of_all().await?, writes(proxy));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(writes(proxy), seen);
    assert_eq!(fleet.version_of_all().await?, versions);
    Ok(())
}

async fn nothing_is_made_for_a_tenant_that_goes_before_its_finalizer_is_on(version: PgVersion) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(version).await?;
    let proxy = fleet.through_proxy().await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("t00", "Delete").await?;
    fleet.wait_ready("t00").await?;
    let finalizer = |asked: &Asked| asked.name.as_deref() == Some("ghost") && asked.verb == "patch";
    let held = Fault::Held(Duration::from_secs(2));
    proxy.inject(move |asked| (finalizer(asked) && asked.subresource.is_none()).then_some(held));
    fleet.tenant("ghost", "Delete").await?;
    eventually(LONG, "the finalizer is on its way", || async {
        anyhow::ensure!(!proxy.injected().is_empty());
        Ok(())
    })
    .await?;
    fleet.delete("ghost").await?;
    assert!(fleet.tenants.get_opt("ghost").await?.is_none(), "nothing held it");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(fleet.ledger("active").await?, ["t00"]);
    assert_eq!(fleet.schemas().await?, [fleet.schema("t00")]);
    assert_eq!(fleet.entries("tenant").await?, ["tenant-t00"]);
    assert_eq!(fleet.key_secrets().await?, ["t00-signing-keys"]);
    Ok(())
}

/// Eight seconds, in which all watches that run break in each way.
async fn break_watches(proxy: &Proxy) {
    for how in [WatchFault::Cut, WatchFault::Expired, WatchFault::Silent] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.break_watches(how);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Writing requests so far, Leases apart.
fn writes(proxy: &Proxy) -> BTreeMap<String, u64> {
    let writing = |what: &String| ["create", "update", "patch", "delete"].iter().any(|verb| what.starts_with(verb));
    proxy.seen().into_iter().filter(|(what, _)| writing(what) && !what.ends_with(" leases")).collect()
}

/// Waits until a Tenant is Ready as it is written now.
async fn wait_current(fleet: &Fleet, name: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("{name} is Ready in its newest form"), || async {
        let tenant = fleet.tenants.get(name).await?;
        let generation = tenant.metadata.generation;
        let status = tenant.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        anyhow::ensure!(
            ready.is_some_and(|c| c.status == "True" && c.observed_generation == generation),
            "{:?}",
            status.conditions
        );
        Ok(())
    })
    .await
}

async fn wait_agent(fleet: &Fleet) -> anyhow::Result<()> {
    eventually(LONG, "the AgentConfig is Ready in its newest form", || async {
        let agent = fleet.agents.get("support").await?;
        let (generation, status) = (agent.metadata.generation, agent.status.unwrap_or_default());
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        anyhow::ensure!(ready && status.observed_generation == generation, "{status:?}");
        Ok(())
    })
    .await?;
    let entry = fleet.entry(&fleet.entries("agent").await?[0]).await?;
    assert_eq!(entry["current"]["behaviour"]["systemPrompt"], "You help gladly.");
    Ok(())
}

/// Each tenant has exactly one of everything, with the newest content; the deleted have nothing.
async fn whole(fleet: &Fleet, kept: &[String], deleted: &[String]) -> anyhow::Result<()> {
    assert_eq!(fleet.ledger("active").await?, kept);
    // One that went before anything was made for it leaves no tombstone.
    let all = fleet.column("SELECT tenant_id FROM agent_tenancy.tenants ORDER BY 1".into()).await?;
    let dropped = fleet.ledger("dropped").await?;
    assert!(dropped.iter().all(|name| deleted.contains(name)), "{dropped:?}");
    assert_eq!(all.len(), kept.len() + dropped.len(), "{all:?}");
    let objects: Vec<String> = kept.iter().map(|name| fleet.schema(name)).collect();
    assert_eq!(fleet.schemas().await?, objects);
    let pattern = fleet.schema("t__");
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{pattern}' ORDER BY 1");
    assert_eq!(fleet.column(roles).await?, objects);
    let mut entries = fleet.entries("tenant").await?;
    entries.sort();
    assert_eq!(entries, kept.iter().map(|name| format!("tenant-{name}")).collect::<Vec<_>>());
    assert_eq!(fleet.entries("agent").await?.len(), 1);
    assert_eq!(fleet.entries("cell").await?.len(), 1);

    let secrets = fleet.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?.items;
    let mut named: Vec<String> = secrets.iter().map(ResourceExt::name_any).collect();
    named.sort();
    assert_eq!(named, kept.iter().map(|name| format!("{name}-signing-keys")).collect::<Vec<_>>());
    for secret in &secrets {
        let data = secret.data.clone().unwrap_or_default();
        let ring: Value = serde_json::from_slice(&data["ring.json"].0)?;
        let keys = ring["keys"].as_array().cloned().unwrap_or_default();
        let current: Vec<&Value> = keys.iter().filter(|key| key["state"] == "Current").collect();
        assert_eq!(current.len(), 1, "{}: {} keys", secret.name_any(), keys.len());
        // What signs is what the replicas verify.
        let name = secret.name_any().replace("-signing-keys", "");
        let entry = fleet.entry(&format!("tenant-{name}")).await?;
        assert_eq!(entry["keys"][0]["kid"], current[0]["kid"], "{name}");
        assert_eq!(entry["keys"].as_array().map(Vec::len), Some(keys.len()), "{name}");
        assert_eq!(entry["mutable"], json!(["Temperature"]), "{name}");
    }
    Ok(())
}

fn last_line(log: &str) -> &str {
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}
