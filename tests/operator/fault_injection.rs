//! Random faults between the programs and the API server while tenants are created, changed and deleted. After the faults
//! end, everything converges as if there had been none.

use super::{
    installation::{Installation, LONG},
    installation_state::settle,
};
use devkit::{ApiRequest, Fault, PgVersion, Proxy, RandomFaults, WatchFault, eventually};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{cell::Cell, collections::BTreeMap, time::Duration};

on_each_postgres!(nothing_is_created_for_a_tenant_that_is_deleted_before_it_has_a_finalizer,);

/// If it ended, the Deployment would start it again, but that takes time when there is most to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_fails_while_an_operator_starts_only_delays_it() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::NEWEST).await?;
    let proxy = installation.through_proxy().await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    installation.tenant("early", "Delete").await?;
    let asks_for_the_cluster = |asked: &ApiRequest| asked.name.as_deref() == Some("kube-system");
    proxy.inject(move |asked| asks_for_the_cluster(asked).then_some(Fault::Refused(500)));
    let operator = installation.spawn_operator("one")?;
    eventually(Duration::from_secs(30), "the operator has asked more than once", || async {
        let times: u64 = proxy.injected().values().sum();
        anyhow::ensure!(times > 1, "{times} times; {:?}: {}", operator.process.exit_status(), operator.process.log());
        Ok(())
    })
    .await?;
    proxy.heal();
    installation.wait_ready("early").await?;
    assert_eq!(operator.process.exit_status(), None);
    Ok(())
}

/// Tenants that are created; some of them are deleted again.
const TENANTS: usize = 16;
/// Share of the requests that go wrong, in percent.
const SHARE: u64 = 20;
/// Longer than the programs' request timeout.
const LATE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_cost_time_and_nothing_else() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::OLDEST).await?;
    let proxy = installation.through_proxy().await?;
    let _replicas = [installation.replica().await?, installation.replica().await?];
    let restarts = Cell::new(0);
    // An operator that lost its Lease ends and is started again, as a kubelet does.
    let kept = async {
        loop {
            let running = installation.spawn_operator("one")?;
            let status = running.process.ended().await?;
            println!("the operator ended ({status}) and is started again: {}", last_line(&running.process.log()));
            restarts.set(restarts.get() + 1);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let scenario = scenario(&installation, &proxy);
    tokio::select! {
        ended = kept => ended,
        ended = scenario => {
            println!("{} restarts", restarts.get());
            ended
        }
    }
}

async fn scenario(installation: &Installation, proxy: &Proxy) -> anyhow::Result<()> {
    let names: Vec<String> = (0..TENANTS).map(|n| format!("t{n:02}")).collect();
    let faults = RandomFaults::new("FAULT_SEED", SHARE, LATE)?;
    proxy.inject(move |asked| faults.decide(asked));
    installation.agent("support", "You help.").await?;
    for name in &names {
        installation.tenant(name, "Delete").await?;
    }
    break_watches(proxy).await;
    let (deleted, kept): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.ends_with(['3', '7']));
    installation.agent("support", "You help gladly.").await?;
    for (n, name) in kept.iter().enumerate() {
        let patch = json!({ "spec": { "tenantMutable": ["Temperature"], "displayName": format!("Tenant {n}") } });
        installation.tenants.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    for name in &deleted {
        installation.delete(name).await?;
    }
    break_watches(proxy).await;
    proxy.heal();
    println!("injected: {:?}", proxy.injected());
    let healed = std::time::Instant::now();
    for name in &kept {
        wait_current(installation, name).await?;
    }
    for name in &deleted {
        eventually(LONG, &format!("{name} is gone"), || async {
            anyhow::ensure!(installation.tenants.get_opt(name).await?.is_none());
            Ok(())
        })
        .await?;
    }
    println!("everything has converged {:.1?} after the last fault", healed.elapsed());
    wait_agent(installation).await?;
    check_everything(installation, &kept, &deleted).await?;
    assert!(proxy.injected().len() >= 10, "too few kinds of faults: {:?}", proxy.injected());

    // Converged: neither the operator nor the replicas write anything, except their Leases.
    settle(installation).await?;
    let (versions, seen) = (installation.version_of_all().await?, writes(proxy));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(writes(proxy), seen);
    assert_eq!(installation.version_of_all().await?, versions);
    Ok(())
}

async fn nothing_is_created_for_a_tenant_that_is_deleted_before_it_has_a_finalizer(
    version: PgVersion,
) -> anyhow::Result<()> {
    let mut installation = Installation::new(version).await?;
    let proxy = installation.through_proxy().await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let _operator = installation.operator("one").await?;
    installation.tenant("t00", "Delete").await?;
    installation.wait_ready("t00").await?;
    let finalizer = |asked: &ApiRequest| asked.name.as_deref() == Some("ghost") && asked.verb == "patch";
    let held = Fault::Held(Duration::from_secs(2));
    proxy.inject(move |asked| (finalizer(asked) && asked.subresource.is_none()).then_some(held));
    installation.tenant("ghost", "Delete").await?;
    eventually(LONG, "the request for the finalizer is delayed", || async {
        anyhow::ensure!(!proxy.injected().is_empty());
        Ok(())
    })
    .await?;
    installation.delete("ghost").await?;
    assert!(installation.tenants.get_opt("ghost").await?.is_none(), "it has no finalizer");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(installation.ledger("active").await?, ["t00"]);
    assert_eq!(installation.schemas().await?, [installation.schema("t00")]);
    assert_eq!(installation.entries("tenant").await?, ["tenant-t00"]);
    assert_eq!(installation.key_secrets().await?, ["t00-signing-keys"]);
    Ok(())
}

/// Takes eight seconds, in which all running watches fail in each way.
async fn break_watches(proxy: &Proxy) {
    for how in [WatchFault::Cut, WatchFault::Expired, WatchFault::Silent] {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.break_watches(how);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Writing requests so far, without Leases.
fn writes(proxy: &Proxy) -> BTreeMap<String, u64> {
    let writing = |what: &String| ["create", "update", "patch", "delete"].iter().any(|verb| what.starts_with(verb));
    proxy.seen().into_iter().filter(|(what, _)| writing(what) && !what.ends_with(" leases")).collect()
}

/// Waits until a Tenant is Ready in its current generation.
async fn wait_current(installation: &Installation, name: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("{name} is Ready in its current generation"), || async {
        let tenant = installation.tenants.get(name).await?;
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

async fn wait_agent(installation: &Installation) -> anyhow::Result<()> {
    eventually(LONG, "the AgentConfig is Ready in its current generation", || async {
        let agent = installation.agents.get("support").await?;
        let (generation, status) = (agent.metadata.generation, agent.status.unwrap_or_default());
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        anyhow::ensure!(ready && status.observed_generation == generation, "{status:?}");
        Ok(())
    })
    .await?;
    let entry = installation.entry(&installation.entries("agent").await?[0]).await?;
    assert_eq!(entry["current"]["behaviour"]["systemPrompt"], "You help gladly.");
    Ok(())
}

/// Each tenant has exactly one of everything, with current content; deleted tenants have nothing.
async fn check_everything(installation: &Installation, kept: &[String], deleted: &[String]) -> anyhow::Result<()> {
    assert_eq!(installation.ledger("active").await?, kept);
    // A Tenant that was deleted before anything was created for it leaves no tombstone.
    let all = installation.column("SELECT tenant_id FROM agent_tenancy.tenants ORDER BY 1").await?;
    let dropped = installation.ledger("dropped").await?;
    assert!(dropped.iter().all(|name| deleted.contains(name)), "{dropped:?}");
    assert_eq!(all.len(), kept.len() + dropped.len(), "{all:?}");
    let objects: Vec<String> = kept.iter().map(|name| installation.schema(name)).collect();
    assert_eq!(installation.schemas().await?, objects);
    let pattern = installation.schema("t__");
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{pattern}' ORDER BY 1");
    assert_eq!(installation.column(roles).await?, objects);
    let mut entries = installation.entries("tenant").await?;
    entries.sort();
    assert_eq!(entries, kept.iter().map(|name| format!("tenant-{name}")).collect::<Vec<_>>());
    assert_eq!(installation.entries("agent").await?.len(), 1);
    assert_eq!(installation.entries("cell").await?.len(), 1);

    let secrets = installation.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?.items;
    let mut named: Vec<String> = secrets.iter().map(ResourceExt::name_any).collect();
    named.sort();
    assert_eq!(named, kept.iter().map(|name| format!("{name}-signing-keys")).collect::<Vec<_>>());
    for secret in &secrets {
        let data = secret.data.clone().unwrap_or_default();
        let keyring: Value = serde_json::from_slice(&data["ring.json"].0)?;
        let keys = keyring["keys"].as_array().cloned().unwrap_or_default();
        let current: Vec<&Value> = keys.iter().filter(|key| key["state"] == "Current").collect();
        assert_eq!(current.len(), 1, "{}: {} keys", secret.name_any(), keys.len());
        // The key that signs is the one that the replicas verify with.
        let name = secret.name_any().replace("-signing-keys", "");
        let entry = installation.entry(&format!("tenant-{name}")).await?;
        assert_eq!(entry["keys"][0]["kid"], current[0]["kid"], "{name}");
        assert_eq!(entry["keys"].as_array().map(Vec::len), Some(keys.len()), "{name}");
        assert_eq!(entry["mutable"], json!(["Temperature"]), "{name}");
    }
    Ok(())
}

fn last_line(log: &str) -> &str {
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
}
