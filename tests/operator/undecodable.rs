//! Objects that don't decode, as an older or laxer CRD may accept them: each is reported in its own status, blocks no other
//! object, can be fixed, and can be deleted.

use super::installation::{Installation, LONG};
use anyhow::Context as _;
use devkit::{Environment, Options, PgVersion, Postgres, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// Tenants and AgentConfigs as the API server stores them.
struct Raw {
    tenants: Api<DynamicObject>,
    agents: Api<DynamicObject>,
}

impl Raw {
    fn of(installation: &Installation) -> anyhow::Result<Raw> {
        let client = installation.tenants.clone().into_client();
        let namespace = &installation.tenants_namespace;
        let (tenant, agent) = (
            ApiResource::erase::<agent_tenancy::api::Tenant>(&()),
            ApiResource::erase::<agent_tenancy::api::AgentConfig>(&()),
        );
        Ok(Raw {
            tenants: Api::namespaced_with(client.clone(), namespace, &tenant),
            agents: Api::namespaced_with(client, namespace, &agent),
        })
    }

    async fn patch(api: &Api<DynamicObject>, name: &str, spec: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(api.patch(name, &PatchParams::default(), &patch).await.map(drop)?)
    }

    /// Waits until a condition of an object has this reason, for its present generation; returns its message.
    async fn reason(api: &Api<DynamicObject>, name: &str, type_: &str, reason: &str) -> anyhow::Result<String> {
        eventually(LONG, &format!("{name}: {type_} for {reason}"), || async {
            let object = api.get(name).await?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition = conditions.into_iter().find(|c| c["type"] == type_).unwrap_or_default();
            let current = condition["observedGeneration"].as_i64() == object.metadata.generation;
            anyhow::ensure!(condition["reason"] == reason && current, "{condition}");
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    async fn gone(api: &Api<DynamicObject>, name: &str) -> anyhow::Result<()> {
        eventually(LONG, &format!("{name} is gone"), || async {
            let left = api.get_opt(name).await?;
            anyhow::ensure!(left.is_none(), "{:?}", left.map(|object| object.data));
            Ok(())
        })
        .await
    }
}

/// A Tenant with any spec.
fn unreadable(name: &str, spec: Value) -> anyhow::Result<DynamicObject> {
    let head = json!({ "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": name } });
    let mut object: DynamicObject = serde_json::from_value(head)?;
    object.data = json!({ "spec": spec });
    Ok(object)
}

/// Makes the CRD of a kind accept anything in its spec.
pub async fn relax(installation: &Installation, name: &str) -> anyhow::Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(installation.tenants.clone().into_client());
    let mut crd = serde_json::to_value(crds.get(name).await?)?;
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version = &mut crd["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "properties": { "spec": anything, "status": anything } });
    version.as_object_mut().context("a version")?.remove("selectableFields");
    let crd: CustomResourceDefinition = serde_json::from_value(crd)?;
    crds.replace(name, &PostParams::default(), &crd).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undecodable_object_is_reported_in_its_status_and_blocks_no_other_object() -> anyhow::Result<()> {
    // A control plane of its own, because CRDs belong to the whole cluster.
    let options = Options { postgres: vec![], ..Options::default() };
    let env = Environment::start(options).await?;
    let installation = Installation::on(&env, &Postgres::shared(PgVersion::NEWEST).await?).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    for name in ["acme", "kept"] {
        installation.tenant(name, "Delete").await?;
    }
    let operator = installation.operator("one").await?;
    for name in ["acme", "kept"] {
        installation.wait_ready(name).await?;
    }
    for name in ["tenants.agent-tenancy.dev", "agentconfigs.agent-tenancy.dev"] {
        relax(&installation, name).await?;
    }
    let raw = Raw::of(&installation)?;
    let entry = installation.registry.get("tenant-acme").await?.metadata.resource_version;

    // A served Tenant becomes undecodable, and another one is so from the beginning. The new schema takes a moment.
    eventually(LONG, "the API server uses the laxer CRD", || {
        Raw::patch(&raw.tenants, "acme", json!({ "agents": "all" }))
    })
    .await?;
    let spec = json!({ "agents": [{ "name": 7 }], "database": { "deletionPolicy": "Shred" } });
    let born = unreadable("born", spec)?;
    raw.tenants.create(&PostParams::default(), &born).await?;
    for (name, field) in [("acme", "spec.agents:"), ("born", "spec.agents[0].name:")] {
        let message = Raw::reason(&raw.tenants, name, "Accepted", "UnreadableSpec").await?;
        println!("{name}: {message}");
        assert!(message.starts_with(field), "the message names the field: {message}");
        Raw::reason(&raw.tenants, name, "Ready", "UnreadableSpec").await?;
        Raw::reason(&raw.tenants, name, "Stalled", "UnreadableSpec").await?;
        eventually(LONG, &format!("an event about {name}"), || async {
            let events = installation.events(name, "UnreadableSpec").await?;
            let warned = events.iter().any(|event| event.type_.as_deref() == Some("Warning"));
            anyhow::ensure!(warned, "{} events", events.len());
            Ok(())
        })
        .await?;
    }
    assert_eq!(
        installation.registry.get("tenant-acme").await?.metadata.resource_version,
        entry,
        "it is still served as it was"
    );
    assert_eq!(installation.ledger("active").await?, ["acme", "kept"], "nothing is created for an undecodable object");

    // Other objects are not affected: a change and a new Tenant are reconciled, also after a restart.
    Raw::patch(&raw.agents, "support", json!({ "parameters": { "maxOutputTokens": 128 } })).await?;
    operator.process.kill_9().await?;
    let operator = installation.operator("one").await?;
    installation.tenant("later", "Delete").await?;
    for name in ["kept", "later"] {
        installation.wait_ready(name).await?;
    }
    assert_eq!(operator.process.exit_status(), None);

    // An AgentConfig becomes undecodable: its tenants keep the last revision.
    Raw::patch(&raw.agents, "support", json!({ "parameters": { "maxOutputTokens": "many" } })).await?;
    Raw::reason(&raw.agents, "support", "Ready", "UnreadableSpec").await?;
    installation.wait_ready("kept").await?;
    Raw::patch(&raw.agents, "support", json!({ "parameters": { "maxOutputTokens": 256 } })).await?;
    Raw::reason(&raw.agents, "support", "Ready", "Ready").await?;

    // Fixed objects converge.
    let agents = json!([{ "name": "main", "configRef": { "name": "support" } }]);
    Raw::patch(&raw.tenants, "acme", json!({ "agents": agents })).await?;
    installation.wait_ready("acme").await?;
    Raw::patch(&raw.tenants, "born", json!({ "agents": agents, "database": { "deletionPolicy": "Retain" } })).await?;
    Raw::reason(&raw.tenants, "born", "Ready", "Ready").await?;

    // A deletion only needs the tenant id and the policy. If the policy can't be decoded, the data is retained.
    Raw::patch(&raw.tenants, "acme", json!({ "agents": 5 })).await?;
    Raw::patch(&raw.tenants, "kept", json!({ "agents": 5, "database": { "deletionPolicy": ["Delete"] } })).await?;
    Raw::patch(&raw.tenants, "born", json!({ "agents": true, "auth": 5 })).await?;
    let never = unreadable("never", json!({ "agents": 1 }))?;
    raw.tenants.create(&PostParams::default(), &never).await?;
    Raw::reason(&raw.tenants, "never", "Accepted", "UnreadableSpec").await?;
    for name in ["acme", "kept", "born", "never"] {
        raw.tenants.delete(name, &DeleteParams::default()).await?;
        Raw::gone(&raw.tenants, name).await?;
    }
    assert_eq!(installation.ledger("dropped").await?, ["acme"]);
    assert_eq!(installation.ledger("retained").await?, ["born", "kept"]);
    assert_eq!(installation.ledger("active").await?, ["later"]);
    assert_eq!(installation.entries("tenant").await?, ["tenant-later"]);
    assert_eq!(installation.key_secrets().await?, ["later-signing-keys"]);
    installation.wait_ready("later").await?;

    Raw::patch(&raw.agents, "support", json!({ "model": 5 })).await?;
    Raw::reason(&raw.agents, "support", "Ready", "UnreadableSpec").await?;
    installation.delete("later").await?;
    raw.agents.delete("support", &DeleteParams::default()).await?;
    Raw::gone(&raw.agents, "support").await?;
    installation.wait_no_tenants().await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(installation.entries("agent").await?, Vec::<String>::new());
    Ok(())
}
