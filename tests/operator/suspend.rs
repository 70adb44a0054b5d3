//! Tenants that are taken out of service and brought back, and objects that nobody is to touch.

use super::{
    clients::{ask_now, plugin},
    fleet::{Fleet, LONG},
    load::{Calls, Load},
    stories::{settle, sum},
};
use agent_tenancy::api::names;
use devkit::{PgVersion, RunningReplica, eventually};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

on_each_postgres!(
    a_tenant_is_taken_out_of_service_and_comes_back_with_everything,
    a_paused_object_is_left_alone_until_somebody_says_otherwise,
);

async fn a_tenant_is_taken_out_of_service_and_comes_back_with_everything(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let operator = fleet.operator("one").await?;
    let replicas = [fleet.replica().await?, fleet.replica().await?];
    let namespace = fleet.tenants_namespace.clone();
    fleet.agent("support", "You help.").await?;
    for name in ["acme", "other"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
        assert_eq!(ask_now(&fleet, name, &replicas[0].url, Some("before")).await?.0, 200);
    }
    settle(&fleet).await?;

    // Somebody asks all the time; the other tenant never notices anything.
    let (token, client) = (fleet.token("other").await?, reqwest::Client::new());
    let url = format!("{}/api/v1/tenants/other/chat", replicas[1].url);
    let load = Load::start(move || {
        let request = client.get(&url).bearer_auth(&token);
        async move {
            let (mut calls, status) = (Calls::default(), request.send().await?.status());
            calls.count((status != 200).then(|| status.to_string()));
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(calls)
        }
    });
    let (versions, before) = (fleet.version_of_all().await?, operator.metrics().await?);
    let output = plugin(&["suspend", "acme", "-n", &namespace]).await?;
    assert!(output.is_success() && output.text().contains("suspended"), "{output:?}");
    settle(&fleet).await?;
    let requests = operator.requests_since(&before).await?;
    println!("one suspension: requests {requests:?}");
    assert!(sum(&requests, &["create", "update", "patch", "delete"]) <= 6, "{requests:?}");
    let now = fleet.version_of_all().await?;
    let changed: Vec<&String> = now.iter().filter(|(name, v)| versions.get(*name) != Some(v)).map(|(n, _)| n).collect();
    assert_eq!(changed.len(), 2, "the Tenant and its entry: {changed:?}");
    for type_ in ["Ready", "Suspended"] {
        assert_eq!(fleet.condition("acme", type_).await?, ("True".to_owned(), "Suspended".to_owned()));
    }
    for RunningReplica { url, .. } in &replicas {
        let (status, problem) = ask_now(&fleet, "acme", url, Some("now?")).await?;
        assert!(status == 403 && problem.contains("\"tenant_suspended\""), "{status} {problem}");
    }
    assert_eq!(fleet.ledger("suspended").await?, ["acme"]);
    let role = fleet.schema("acme");
    let members = format!(
        "SELECT m.member::regrole::text FROM pg_auth_members m WHERE m.roleid = '\"{role}\"'::regrole \
         AND m.member::regrole::text LIKE '%\\_acc\\_%'"
    );
    assert_eq!(fleet.column(members.clone()).await?, Vec::<String>::new(), "the agent API can't become its role");

    // Still so after a restart; keys rotate meanwhile; and one that is suspended can be deleted.
    operator.process.kill_9().await?;
    let operator = fleet.operator("one").await?;
    let output = plugin(&["rotate", "acme", "-n", &namespace]).await?;
    assert!(output.is_success(), "{output:?}");
    fleet.tenant("third", "Delete").await?;
    fleet.wait_ready("third").await?;
    let output = plugin(&["suspend", "third", "-n", &namespace]).await?;
    assert!(output.is_success(), "{output:?}");
    fleet.delete("third").await?;
    fleet.wait_gone("third").await?;

    let output = plugin(&["resume", "acme", "-n", &namespace]).await?;
    assert!(output.is_success() && output.text().contains("resumed"), "{output:?}");
    assert!(fleet.condition("acme", "Suspended").await.is_err(), "it is not told any more");
    assert_eq!(fleet.column(members).await?.len(), 1);
    for RunningReplica { url, .. } in &replicas {
        assert_eq!(ask_now(&fleet, "acme", url, Some("after")).await?.0, 200);
    }
    let (_, told) = ask_now(&fleet, "acme", &replicas[0].url, None).await?;
    assert!(told.contains("before") && told.contains("after") && !told.contains("now?"), "{told}");
    let Calls { asked, failed } = load.end().await?;
    assert!(asked > 20 && failed.is_empty(), "{asked} {failed:?}");
    settle(&fleet).await?;
    let (versions, before) = (fleet.version_of_all().await?, operator.metrics().await?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(operator.requests_since(&before).await?.len(), 0);
    assert_eq!(fleet.version_of_all().await?, versions);
    Ok(())
}

async fn a_paused_object_is_left_alone_until_somebody_says_otherwise(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let pause = async |value: Value| {
        let patch = json!({ "metadata": { "annotations": { names::PAUSED_ANNOTATION: value } } });
        fleet.tenants.patch("acme", &PatchParams::default(), &Patch::Merge(&patch)).await?;
        fleet.agents.patch("support", &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    };
    pause(json!("yes")).await?;
    fleet.wait_condition("acme", "Accepted", "False", "InvalidSpec").await?;
    let said = fleet.message("acme", "Accepted").await?;
    assert_eq!(said, format!("metadata.annotations[{}] must be 'true' or 'false'", names::PAUSED_ANNOTATION));
    pause(json!("true")).await?;
    fleet.wait_condition("acme", "Paused", "True", "Paused").await?;

    // Nothing of it is done: not a new spec, not a repair, not a deletion; and the agent API goes on.
    fleet.patch("acme", json!({ "spec": { "suspend": true } })).await?;
    fleet.registry.delete("tenant-acme", &Default::default()).await?;
    fleet.agent("support", "You help gladly.").await?;
    fleet.delete("acme").await?;
    fleet.wait_condition("acme", "DeletionBlocked", "True", "Paused").await?;
    settle(&fleet).await?;
    assert_eq!(fleet.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(fleet.ledger("active").await?, ["acme"]);
    assert_eq!(ask_now(&fleet, "acme", &url, Some("hello")).await?.0, 200);

    pause(Value::Null).await?;
    fleet.wait_gone("acme").await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    eventually(LONG, "the AgentConfig is served as it is now", || async {
        let status = fleet.agents.get("support").await?.status.unwrap_or_default();
        anyhow::ensure!(status.revision == Some(2), "{:?}", status.revision);
        anyhow::ensure!(status.conditions.iter().all(|c| c.type_ != "Paused"), "{:?}", status.conditions);
        Ok(())
    })
    .await
}
