//! A fleet's tables are brought to a new version under load: canaries first, one tenant's failure halts it, a person mends
//! that, and nobody's request fails meanwhile. And the platform team's own migrations, from a ConfigMap.

use super::{
    clients::{Signer, plugin},
    counters::sum,
    fleet::{Fleet, LONG, Operator},
    stories::settle,
};
use agent_tenancy::{
    api::{DatabaseInstance, names},
    domain::migrations::TENANT_VERSION,
};
use anyhow::Context as _;
use devkit::{Component, Environment, PgVersion, Postgres, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

on_each_postgres!(
    a_fleet_is_upgraded_in_turns_and_halts_when_a_tenant_fails,
    migrations_of_your_own_reach_every_tenant_and_nothing_else,
);

/// Version of the tables of each tenant.
async fn versions(fleet: &Fleet) -> anyhow::Result<BTreeMap<String, i32>> {
    let all = fleet.tenants.list(&ListParams::default()).await?.items;
    let version = |t: &agent_tenancy::api::Tenant| t.status.as_ref()?.database.as_ref().map(|d| d.schema_version);
    Ok(all.into_iter().filter_map(|t| Some((t.metadata.name.clone()?, version(&t)?))).collect())
}

/// Waits until the operator says that the upgrade is at this stage.
async fn wait_stage(operator: &Operator, stage: &str) -> anyhow::Result<()> {
    let name = format!("tenant_operator_migrations_stage{{stage=\"{stage}\"}}");
    eventually(LONG, &format!("the upgrade is {stage}"), || async {
        let metrics = operator.metrics().await?;
        anyhow::ensure!(metrics.get(&name) == Some(&1.0), "{metrics:?}");
        Ok(())
    })
    .await
}

/// Waits until the operator says this of its database; the message.
async fn wait_instance(fleet: &Fleet, type_: &str, status: &str, reason: &str) -> anyhow::Result<String> {
    let instances: Api<DatabaseInstance> = Api::namespaced(fleet.env.client().await?, fleet.release.namespace());
    eventually(LONG, &format!("the database: {type_}={status} ({reason})"), || async {
        let told = instances.get("main").await?.status.context("no status yet")?;
        let condition = told.conditions.into_iter().find(|c| c.type_ == type_).context("no such condition yet")?;
        anyhow::ensure!((condition.status.as_str(), condition.reason.as_str()) == (status, reason), "{condition:?}");
        Ok(condition.message)
    })
    .await
}

/// Users of every tenant talk to every replica all the time.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<anyhow::Result<(usize, Vec<String>)>>,
}

impl Load {
    async fn start(fleet: &Fleet, tenants: &[&str], replicas: Vec<String>) -> anyhow::Result<Self> {
        let mut calls = Vec::new();
        for tenant in tenants {
            let token = Signer::of(fleet, tenant).await?.token(tenant)?;
            calls.extend(replicas.iter().map(|url| (format!("{url}/api/v1/tenants/{tenant}/chat"), token.clone())));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let (mut asked, mut failed) = (0, Vec::new());
            while !ended.load(Ordering::Relaxed) {
                for (url, token) in &calls {
                    let sent = client.post(url).bearer_auth(token).json(&json!({ "message": "and now?" }));
                    let answer = sent.send().await?;
                    asked += 1;
                    if answer.status() != 200 {
                        failed.push(format!("{url}: {} {}", answer.status(), answer.text().await?));
                    }
                }
            }
            Ok((asked, failed))
        });
        Ok(Self { stop, task })
    }

    async fn end(self) -> anyhow::Result<(usize, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn annotate(fleet: &Fleet, tenant: &str, name: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { name: value } } });
    fleet.tenants.patch(tenant, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn a_fleet_is_upgraded_in_turns_and_halts_when_a_tenant_fails(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({
        "agentApi": { "replicaSource": "Leases" },
        "migrations": { "version": 1, "holdSeconds": 1, "parallel": 1 },
    });
    let mut fleet = Fleet::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let namespace = fleet.tenants.namespace().context("a namespace")?.to_owned();
    let before = fleet.operator("one").await?;
    let replicas = [fleet.replica().await?, fleet.replica().await?];
    fleet.agent("support", "You help.").await?;
    let tenants = ["canary", "bad", "t1", "t2", "t3"];
    for name in tenants {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
    }
    assert!(versions(&fleet).await?.values().all(|version| *version == 1));
    let load = Load::start(&fleet, &tenants, replicas.iter().map(|(_, url)| url.clone()).collect()).await?;

    // Something of that name is in the way in one schema.
    let (bad, owner) = (fleet.schema("bad"), fleet.schema("own_1"));
    fleet.execute(&format!("SET ROLE {owner}; CREATE TABLE {bad}.storage (mine int)")).await?;
    before.process.kill_9().await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", TENANT_VERSION.to_string());
    fleet.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__CANARIES", format!("[{namespace}/canary]"));
    let operator = fleet.operator("one").await?;
    wait_stage(&operator, "Halted").await?;
    // Who was under way when it halted, comes to his end and says so.
    settle(&fleet).await?;
    let halted = versions(&fleet).await?;
    println!("halted with {halted:?}");
    assert_eq!((halted["canary"], halted["bad"]), (TENANT_VERSION, 1), "the canary was first");
    fleet.wait_condition("bad", "DatabaseReady", "False", "MigrationFailed").await?;
    fleet.wait_condition("bad", "Stalled", "True", "MigrationFailed").await?;
    let message = fleet.message("bad", "DatabaseReady").await?;
    assert!(message.contains("0002_storage.sql failed") && message.contains("already exists"), "{message}");
    for name in ["canary", "t1", "t2", "t3"] {
        fleet.wait_ready(name).await?;
    }
    wait_instance(&fleet, "TablesCurrent", "False", "UpgradeHalted").await?;
    let (done, told) = plugin(&["migrations", "-n", &namespace]).await?;
    assert!(
        done && told.contains("database main: schema version 2: Halted")
            && told.contains("/bad, schema version 1: MigrationFailed:"),
        "{told}"
    );
    // Nobody further begins, also after a restart; and nothing is written while it waits.
    settle(&fleet).await?;
    operator.process.kill_9().await?;
    let operator = fleet.operator("one").await?;
    wait_stage(&operator, "Halted").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (counted, objects) = (operator.metrics().await?, fleet.version_of_all().await?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = operator.requests_since(&counted).await?;
    assert_eq!(sum(&requests, &["create", "update", "patch", "delete"]), 0, "{requests:?}");
    assert_eq!((versions(&fleet).await?, fleet.version_of_all().await?), (halted, objects));

    // Asked for again without mending: it fails again, as it did. Then it is mended.
    annotate(&fleet, "bad", names::RETRY_MIGRATION_ANNOTATION, "too early").await?;
    let attempts = "SELECT attempts::text FROM agent_tenancy.migration_failures".to_owned();
    eventually(LONG, "a second attempt", || async {
        let found = fleet.column(attempts.clone()).await?;
        anyhow::ensure!(found == ["2"], "{found:?}");
        Ok(())
    })
    .await?;
    fleet.execute(&format!("DROP TABLE {bad}.storage")).await?;
    annotate(&fleet, "bad", names::RETRY_MIGRATION_ANNOTATION, "now").await?;
    wait_stage(&operator, "Done").await?;
    for name in tenants {
        fleet.wait_ready(name).await?;
    }
    wait_instance(&fleet, "TablesCurrent", "True", "UpToDate").await?;
    settle(&fleet).await?;
    assert!(versions(&fleet).await?.values().all(|version| *version == TENANT_VERSION));
    let (asked, failed) = load.end().await?;
    println!("{asked} requests during the upgrade, {} of them failed", failed.len());
    assert!(asked > 50 && failed.is_empty(), "{failed:?}");
    // What was kept and counted is the same thing.
    let counted = "SELECT (SELECT sum(bytes) FROM $.storage) = (SELECT sum(octet_length(content)) FROM $.messages)";
    for name in tenants {
        let same = fleet.column(format!("SELECT ({})::text", counted.replace('$', &fleet.schema(name)))).await?;
        assert_eq!(same, ["true"], "{name}");
    }
    Ok(())
}

async fn migrations_of_your_own_reach_every_tenant_and_nothing_else(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({
        "agentApi": { "replicaSource": "Leases" }, "migrations": { "configMap": "own-tables", "holdSeconds": 0 },
    });
    let fleet = Fleet::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let maps: Api<ConfigMap> = Api::namespaced(fleet.env.client().await?, fleet.release.namespace());
    let publish = async |files: serde_json::Value| -> anyhow::Result<()> {
        let map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "own-tables" }, "data": files });
        maps.patch("own-tables", &PatchParams::apply("operator-test").force(), &Patch::Apply(&map)).await?;
        Ok(())
    };
    // A replica that may open more connections than the server takes: told, with what to do, and no reason to do less.
    let greedy = [
        ("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", fleet.release.namespace()),
        ("AGENT_TENANCY__DATABASE__CONNECTION_BUDGET", "9000"),
    ];
    let _replica = fleet.replica_with(&greedy).await?;
    let operator = fleet.operator("one").await?;
    let message = wait_instance(&fleet, "Headroom", "False", "NearLimit").await?;
    assert!(
        message.contains("the agent API's replicas 9000") && message.contains("raise max_connections"),
        "{message}"
    );
    wait_instance(&fleet, "Available", "True", "Available").await?;
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;

    let first = "-- grant: SELECT, INSERT ON notes\nCREATE TABLE notes (id int PRIMARY KEY);";
    publish(json!({ "0001_notes.sql": first })).await?;
    let (acme, globex) = (fleet.schema("acme"), fleet.schema("globex"));
    let has = async |table: String| -> anyhow::Result<()> {
        eventually(LONG, &format!("table {table}"), || async {
            let found = fleet.column(format!("SELECT to_regclass('{table}')::text")).await?;
            anyhow::ensure!(!found.is_empty() && found[0].contains("notes"), "{found:?}");
            Ok(())
        })
        .await
    };
    has(format!("{acme}_x.notes")).await?;
    fleet.wait_ready("acme").await?;
    // One that is new gets them, too.
    fleet.tenant("globex", "Delete").await?;
    has(format!("{globex}_x.notes")).await?;
    fleet.wait_ready("globex").await?;

    // Wrong files change nothing for anybody; a file that says something else than when it was applied stops that tenant.
    publish(json!({ "0001_notes.sql": first, "0003_gap.sql": "SELECT 1;" })).await?;
    eventually(LONG, "the operator says that they can't be used", || async {
        let metrics = operator.metrics().await?;
        anyhow::ensure!(metrics.get("tenant_operator_own_migrations") == Some(&-1.0));
        Ok(())
    })
    .await?;
    publish(json!({ "0001_notes.sql": format!("{first} -- edited") })).await?;
    for name in ["acme", "globex"] {
        annotate(&fleet, name, "agent-tenancy.dev/look", "1").await?;
        fleet.wait_condition(name, "DatabaseReady", "False", "MigrationChanged").await?;
    }
    let second = "GRANT SELECT ON agent_tenancy.tenants TO PUBLIC;";
    publish(json!({ "0001_notes.sql": first, "0002_hostile.sql": second })).await?;
    for name in ["acme", "globex"] {
        annotate(&fleet, name, "agent-tenancy.dev/look", "2").await?;
    }
    eventually(LONG, "one of them has failed", || async {
        let failed = fleet.column("SELECT message FROM agent_tenancy.migration_failures".to_owned()).await?;
        anyhow::ensure!(
            failed.first().is_some_and(|m| m.contains("permission denied for schema agent_tenancy")),
            "{failed:?}"
        );
        Ok(())
    })
    .await?;
    wait_stage(&operator, "Halted").await?;
    publish(json!({ "0001_notes.sql": first, "0002_hostile.sql": "ALTER TABLE notes ADD note text;" })).await?;
    wait_stage(&operator, "Done").await?;
    for name in ["acme", "globex"] {
        annotate(&fleet, name, "agent-tenancy.dev/look", "3").await?;
        fleet.wait_ready(name).await?;
    }
    // Gone: what was applied stays, and nobody is any the worse for it.
    maps.delete("own-tables", &DeleteParams::default()).await?;
    settle(&fleet).await?;
    fleet.wait_ready("acme").await?;
    for name in ["acme", "globex"] {
        fleet.delete(name).await?;
        fleet.wait_gone(name).await?;
    }
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    let roles = fleet.column(format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{acme}%'")).await?;
    assert_eq!(roles, Vec::<String>::new());
    Ok(())
}
