//! Tenants' tables are upgraded under load: canaries first, a failure of one tenant halts the upgrade until it is fixed, and
//! no request fails meanwhile. Also custom migrations, from a ConfigMap.

use super::{
    cost::sum,
    installation::{Installation, LONG},
    installation_state::settle,
    load::{Calls, Load},
    users::plugin,
};
use agent_tenancy::{
    api::{DatabaseInstance, names},
    domain::migrations::TENANT_VERSION,
};
use anyhow::Context as _;
use devkit::{Component, Environment, PgVersion, Postgres, RunningOperator, RunningReplica, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

on_each_postgres!(
    an_upgrade_is_rolled_out_step_by_step_and_halts_when_a_tenant_fails,
    custom_migrations_reach_every_tenant_and_nothing_else,
);

/// The schema version of each tenant.
async fn versions(installation: &Installation) -> anyhow::Result<BTreeMap<String, i32>> {
    let all = installation.tenants.list(&ListParams::default()).await?.items;
    let version = |t: &agent_tenancy::api::Tenant| t.status.as_ref()?.database.as_ref().map(|d| d.schema_version);
    Ok(all.into_iter().filter_map(|t| Some((t.metadata.name.clone()?, version(&t)?))).collect())
}

/// Waits until the operator's metrics show the upgrade at this stage.
async fn wait_stage(operator: &RunningOperator, stage: &str) -> anyhow::Result<()> {
    let name = format!("tenant_operator_migrations_stage{{stage=\"{stage}\"}}");
    eventually(LONG, &format!("the upgrade is {stage}"), || async {
        let metrics = operator.metrics().await?;
        anyhow::ensure!(metrics.get(&name) == Some(&1.0), "{metrics:?}");
        Ok(())
    })
    .await
}

/// Waits for a condition of the database instance; returns its message.
async fn wait_instance(installation: &Installation, type_: &str, status: &str, reason: &str) -> anyhow::Result<String> {
    let instances: Api<DatabaseInstance> =
        Api::namespaced(installation.env.client().await?, installation.release.namespace());
    eventually(LONG, &format!("the database: {type_}={status} ({reason})"), || async {
        let instance = instances.get("main").await?.status.context("no status yet")?;
        let condition = instance.conditions.into_iter().find(|c| c.type_ == type_).context("no such condition yet")?;
        anyhow::ensure!((condition.status.as_str(), condition.reason.as_str()) == (status, reason), "{condition:?}");
        Ok(condition.message)
    })
    .await
}

/// Users of every tenant chat at every replica.
async fn load(installation: &Installation, tenants: &[&str], replicas: &[RunningReplica]) -> anyhow::Result<Load> {
    let mut targets = Vec::new();
    for tenant in tenants {
        let token = installation.token(tenant).await?;
        let url = |replica: &RunningReplica| format!("{}/api/v1/tenants/{tenant}/chat", replica.url);
        targets.extend(replicas.iter().map(|replica| (url(replica), token.clone())));
    }
    let (targets, client) = (Arc::new(targets), reqwest::Client::new());
    Ok(Load::start(move || {
        let (targets, client) = (Arc::clone(&targets), client.clone());
        async move {
            let mut calls = Calls::default();
            for (url, token) in targets.iter() {
                let request = client.post(url).bearer_auth(token).json(&json!({ "message": "and now?" }));
                let answer = request.send().await?;
                let failure = match answer.status().as_u16() {
                    200 => None,
                    status => Some(format!("{url}: {status} {}", answer.text().await?)),
                };
                calls.count(failure);
            }
            Ok(calls)
        }
    }))
}

async fn an_upgrade_is_rolled_out_step_by_step_and_halts_when_a_tenant_fails(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({
        "agentApi": { "replicaSource": "Leases" },
        "migrations": { "version": 1, "holdSeconds": 1, "parallel": 1 },
    });
    let mut installation =
        Installation::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let namespace = installation.tenants_namespace.clone();
    let before = installation.operator("one").await?;
    let replicas = [installation.replica().await?, installation.replica().await?];
    installation.agent("support", "You help.").await?;
    let tenants = ["canary", "bad", "t1", "t2", "t3"];
    for name in tenants {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
    }
    assert!(versions(&installation).await?.values().all(|version| *version == 1));
    let load = load(&installation, &tenants, &replicas).await?;

    // A table of the same name is in the way in one schema.
    let (bad, owner) = (installation.schema("bad"), installation.schema("own_1"));
    installation.execute(&format!("SET ROLE {owner}; CREATE TABLE {bad}.storage (mine int)")).await?;
    before.process.kill_9().await?;
    installation.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__VERSION", TENANT_VERSION.to_string());
    installation.set(Component::Operator, "AGENT_TENANCY__MIGRATIONS__CANARIES", format!("[{namespace}/canary]"));
    let operator = installation.operator("one").await?;
    wait_stage(&operator, "Halted").await?;
    // Upgrades that were running when it halted finish first.
    settle(&installation).await?;
    let halted = versions(&installation).await?;
    println!("halted with {halted:?}");
    assert_eq!((halted["canary"], halted["bad"]), (TENANT_VERSION, 1), "the canary was first");
    installation.wait_condition("bad", "DatabaseReady", "False", "MigrationFailed").await?;
    installation.wait_condition("bad", "Stalled", "True", "MigrationFailed").await?;
    let message = installation.message("bad", "DatabaseReady").await?;
    assert!(message.contains("0002_storage.sql failed") && message.contains("already exists"), "{message}");
    for name in ["canary", "t1", "t2", "t3"] {
        installation.wait_ready(name).await?;
    }
    wait_instance(&installation, "TablesCurrent", "False", "UpgradeHalted").await?;
    let output = plugin(&["migrations", "-n", &namespace]).await?;
    assert!(output.is_success(), "{output:?}");
    let halted_line = format!("database main: schema version {TENANT_VERSION}: Halted");
    for part in [halted_line.as_str(), "/bad, schema version 1: MigrationFailed:"] {
        assert!(output.text().contains(part), "{output:?}");
    }
    // No further upgrade begins, also after a restart, and nothing is written meanwhile.
    settle(&installation).await?;
    operator.process.kill_9().await?;
    let operator = installation.operator("one").await?;
    wait_stage(&operator, "Halted").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (counted, objects) = (operator.metrics().await?, installation.version_of_all().await?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = operator.requests_since(&counted).await?;
    assert_eq!(sum(&requests, &["create", "update", "patch", "delete"]), 0, "{requests:?}");
    assert_eq!((versions(&installation).await?, installation.version_of_all().await?), (halted, objects));

    // A retry without a fix fails again. Then it is fixed.
    installation.annotate("bad", names::RETRY_MIGRATION_ANNOTATION, "too early").await?;
    let attempts = "SELECT attempts::text FROM agent_tenancy.migration_failures".to_owned();
    eventually(LONG, "a second attempt", || async {
        let found = installation.column(attempts.clone()).await?;
        anyhow::ensure!(found == ["2"], "{found:?}");
        Ok(())
    })
    .await?;
    installation.execute(&format!("DROP TABLE {bad}.storage")).await?;
    installation.annotate("bad", names::RETRY_MIGRATION_ANNOTATION, "now").await?;
    wait_stage(&operator, "Done").await?;
    for name in tenants {
        installation.wait_ready(name).await?;
    }
    wait_instance(&installation, "TablesCurrent", "True", "UpToDate").await?;
    settle(&installation).await?;
    assert!(versions(&installation).await?.values().all(|version| *version == TENANT_VERSION));
    let Calls { asked, failed } = load.end().await?;
    println!("{asked} requests during the upgrade, {} of them failed", failed.len());
    assert!(asked > 50 && failed.is_empty(), "{failed:?}");
    // The counted bytes are those that are stored.
    let counted = "SELECT (SELECT sum(bytes) FROM $.storage) = (SELECT sum(octet_length(content)) FROM $.messages)";
    for name in tenants {
        let same =
            installation.column(format!("SELECT ({})::text", counted.replace('$', &installation.schema(name)))).await?;
        assert_eq!(same, ["true"], "{name}");
    }
    Ok(())
}

async fn custom_migrations_reach_every_tenant_and_nothing_else(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({
        "agentApi": { "replicaSource": "Leases" }, "migrations": { "configMap": "custom-tables", "holdSeconds": 0 },
    });
    let installation =
        Installation::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let maps: Api<ConfigMap> = Api::namespaced(installation.env.client().await?, installation.release.namespace());
    let publish = async |files: serde_json::Value| -> anyhow::Result<()> {
        let map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "custom-tables" }, "data": files });
        maps.patch("custom-tables", &PatchParams::apply("operator-test").force(), &Patch::Apply(&map)).await?;
        Ok(())
    };
    // A replica may open more connections than the server accepts: the condition says so, and the database is used all the same.
    let greedy = [
        ("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", installation.release.namespace()),
        ("AGENT_TENANCY__DATABASE__CONNECTION_BUDGET", "9000"),
        // Each of them has its memory.
        ("AGENT_TENANCY__LIMITS__MEMORY_MEBIBYTES", "2048"),
    ];
    let _replica = installation.replica_with(&greedy).await?;
    let operator = installation.operator("one").await?;
    let message = wait_instance(&installation, "Headroom", "False", "NearLimit").await?;
    assert!(
        message.contains("the agent API's replicas 9000") && message.contains("raise max_connections"),
        "{message}"
    );
    wait_instance(&installation, "Available", "True", "Available").await?;
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;

    let first = "-- grant: SELECT, INSERT ON notes\nCREATE TABLE notes (id int PRIMARY KEY);";
    publish(json!({ "0001_notes.sql": first })).await?;
    let (acme, globex) = (installation.schema("acme"), installation.schema("globex"));
    let has = async |table: String| -> anyhow::Result<()> {
        eventually(LONG, &format!("table {table}"), || async {
            let found = installation.column(format!("SELECT to_regclass('{table}')::text")).await?;
            anyhow::ensure!(!found.is_empty() && found[0].contains("notes"), "{found:?}");
            Ok(())
        })
        .await
    };
    has(format!("{acme}_x.notes")).await?;
    installation.wait_ready("acme").await?;
    // A new tenant gets them too.
    installation.tenant("globex", "Delete").await?;
    has(format!("{globex}_x.notes")).await?;
    installation.wait_ready("globex").await?;

    // Invalid files change no tenant. A file that was changed after it was applied stops the tenants that have it.
    publish(json!({ "0001_notes.sql": first, "0003_gap.sql": "SELECT 1;" })).await?;
    eventually(LONG, "the metric says that the files are invalid", || async {
        let metrics = operator.metrics().await?;
        anyhow::ensure!(metrics.get("tenant_operator_custom_migrations") == Some(&-1.0));
        Ok(())
    })
    .await?;
    publish(json!({ "0001_notes.sql": format!("{first} -- edited") })).await?;
    for name in ["acme", "globex"] {
        installation.annotate(name, "agent-tenancy.dev/touch", "1").await?;
        installation.wait_condition(name, "DatabaseReady", "False", "MigrationChanged").await?;
    }
    let second = "GRANT SELECT ON agent_tenancy.tenants TO PUBLIC;";
    publish(json!({ "0001_notes.sql": first, "0002_hostile.sql": second })).await?;
    for name in ["acme", "globex"] {
        installation.annotate(name, "agent-tenancy.dev/touch", "2").await?;
    }
    eventually(LONG, "one of them has failed", || async {
        let failed = installation.column("SELECT message FROM agent_tenancy.migration_failures".to_owned()).await?;
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
        installation.annotate(name, "agent-tenancy.dev/touch", "3").await?;
        installation.wait_ready(name).await?;
    }
    // When the ConfigMap is deleted, what was applied stays, and the tenants are still served.
    maps.delete("custom-tables", &DeleteParams::default()).await?;
    settle(&installation).await?;
    installation.wait_ready("acme").await?;
    for name in ["acme", "globex"] {
        installation.delete(name).await?;
        installation.wait_gone(name).await?;
    }
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    let roles = installation.column(format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{acme}%'")).await?;
    assert_eq!(roles, Vec::<String>::new());
    Ok(())
}
