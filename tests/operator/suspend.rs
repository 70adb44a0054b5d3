//! Suspended tenants, and paused objects.

use super::{
    cost::sum,
    installation::{Installation, LONG},
    installation_state::settle,
    load::{Calls, Load},
    users::{ask_now, plugin},
};
use agent_tenancy::api::names;
use devkit::{PgVersion, RunningReplica, eventually};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

on_each_postgres!(
    a_tenant_is_suspended_and_resumed_with_all_its_data,
    a_paused_object_is_not_changed_until_it_is_resumed,
);

async fn a_tenant_is_suspended_and_resumed_with_all_its_data(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let operator = installation.operator("one").await?;
    let replicas = [installation.replica().await?, installation.replica().await?];
    let namespace = installation.tenants_namespace.clone();
    installation.agent("support", "You help.").await?;
    for name in ["acme", "other"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
        assert_eq!(ask_now(&installation, name, &replicas[0].url, Some("before")).await?.0, 200);
    }
    settle(&installation).await?;

    // Another tenant is called all the time and is not affected.
    let (token, client) = (installation.token("other").await?, reqwest::Client::new());
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
    let (versions, before) = (installation.version_of_all().await?, operator.metrics().await?);
    let output = plugin(&["suspend", "acme", "-n", &namespace]).await?;
    assert!(output.is_success() && output.text().contains("suspended"), "{output:?}");
    settle(&installation).await?;
    let requests = operator.requests_since(&before).await?;
    println!("one suspension: requests {requests:?}");
    assert!(sum(&requests, &["create", "update", "patch", "delete"]) <= 6, "{requests:?}");
    let now = installation.version_of_all().await?;
    let changed: Vec<&String> = now.iter().filter(|(name, v)| versions.get(*name) != Some(v)).map(|(n, _)| n).collect();
    assert_eq!(changed.len(), 2, "the Tenant and its entry: {changed:?}");
    for type_ in ["Ready", "Suspended"] {
        assert_eq!(installation.condition("acme", type_).await?, ("True".to_owned(), "Suspended".to_owned()));
    }
    for RunningReplica { url, .. } in &replicas {
        let (status, problem) = ask_now(&installation, "acme", url, Some("now?")).await?;
        assert!(status == 403 && problem.contains("\"tenant_suspended\""), "{status} {problem}");
    }
    assert_eq!(installation.ledger("suspended").await?, ["acme"]);
    let role = installation.schema("acme");
    let members = format!(
        "SELECT m.member::regrole::text FROM pg_auth_members m WHERE m.roleid = '\"{role}\"'::regrole \
         AND m.member::regrole::text LIKE '%\\_acc\\_%'"
    );
    assert_eq!(
        installation.column(members.clone()).await?,
        Vec::<String>::new(),
        "the agent API can't become its role"
    );

    // A restart changes nothing; keys can be rotated meanwhile; and a suspended tenant can be deleted.
    operator.process.kill_9().await?;
    let operator = installation.operator("one").await?;
    let output = plugin(&["rotate", "acme", "-n", &namespace]).await?;
    assert!(output.is_success(), "{output:?}");
    installation.tenant("third", "Delete").await?;
    installation.wait_ready("third").await?;
    let output = plugin(&["suspend", "third", "-n", &namespace]).await?;
    assert!(output.is_success(), "{output:?}");
    installation.delete("third").await?;
    installation.wait_gone("third").await?;

    let output = plugin(&["resume", "acme", "-n", &namespace]).await?;
    assert!(output.is_success() && output.text().contains("resumed"), "{output:?}");
    assert!(installation.condition("acme", "Suspended").await.is_err(), "the condition is removed");
    assert_eq!(installation.column(members).await?.len(), 1);
    for RunningReplica { url, .. } in &replicas {
        assert_eq!(ask_now(&installation, "acme", url, Some("after")).await?.0, 200);
    }
    let (_, answer) = ask_now(&installation, "acme", &replicas[0].url, None).await?;
    assert!(answer.contains("before") && answer.contains("after") && !answer.contains("now?"), "{answer}");
    let Calls { asked, failed } = load.end().await?;
    assert!(asked > 20 && failed.is_empty(), "{asked} {failed:?}");
    settle(&installation).await?;
    let (versions, before) = (installation.version_of_all().await?, operator.metrics().await?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(operator.requests_since(&before).await?.len(), 0);
    assert_eq!(installation.version_of_all().await?, versions);
    Ok(())
}

async fn a_paused_object_is_not_changed_until_it_is_resumed(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let pause = async |value: Value| {
        let patch = json!({ "metadata": { "annotations": { names::PAUSED_ANNOTATION: value } } });
        installation.tenants.patch("acme", &PatchParams::default(), &Patch::Merge(&patch)).await?;
        installation.agents.patch("support", &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    };
    pause(json!("yes")).await?;
    installation.wait_condition("acme", "Accepted", "False", "InvalidSpec").await?;
    let output = installation.message("acme", "Accepted").await?;
    assert_eq!(output, format!("metadata.annotations[{}] must be 'true' or 'false'", names::PAUSED_ANNOTATION));
    pause(json!("true")).await?;
    installation.wait_condition("acme", "Paused", "True", "Paused").await?;

    // No change of the spec, no repair and no deletion is carried out; the agent API still serves the tenant.
    installation.patch("acme", json!({ "spec": { "suspend": true } })).await?;
    installation.registry.delete("tenant-acme", &Default::default()).await?;
    installation.agent("support", "You help gladly.").await?;
    installation.delete("acme").await?;
    installation.wait_condition("acme", "DeletionBlocked", "True", "Paused").await?;
    settle(&installation).await?;
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(installation.ledger("active").await?, ["acme"]);
    assert_eq!(ask_now(&installation, "acme", &url, Some("hello")).await?.0, 200);

    pause(Value::Null).await?;
    installation.wait_gone("acme").await?;
    assert_eq!(installation.schemas().await?, Vec::<String>::new());
    eventually(LONG, "the current AgentConfig is served", || async {
        let status = installation.agents.get("support").await?.status.unwrap_or_default();
        anyhow::ensure!(status.revision == Some(2), "{:?}", status.revision);
        anyhow::ensure!(status.conditions.iter().all(|c| c.type_ != "Paused"), "{:?}", status.conditions);
        Ok(())
    })
    .await
}
