//! The objects of this benchmark, changed as a platform team does.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use devkit::{SigningKey, TestInstallation, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::user::User;

/// Far longer than any change takes.
const LONG: Duration = Duration::from_secs(30);
/// The one AgentConfig, which all tenants use.
const DESK: &str = "desk";

/// A namespace with the tenants, and the registry.
pub(super) struct Objects {
    agents: Api<DynamicObject>,
    tenants: Api<DynamicObject>,
    secrets: Api<Secret>,
    registry: Api<Secret>,
}

impl Objects {
    /// Creates the AgentConfig, but no Tenant.
    pub(super) async fn new(installation: &TestInstallation) -> anyhow::Result<Objects> {
        let (client, namespace) = (installation.client().await?, &installation.tenants_namespace);
        let api = |kind: &str, plural: &str| {
            let kind = GroupVersionKind::gvk("agent-tenancy.dev", "v1alpha1", kind);
            Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, plural))
        };
        let objects = Objects {
            agents: api("AgentConfig", "agentconfigs"),
            tenants: api("Tenant", "tenants"),
            secrets: Api::namespaced(client.clone(), namespace),
            registry: Api::namespaced(client.clone(), &installation.registry_namespace),
        };
        let spec = json!({
            "provider": { "type": "Echo" }, "model": "echo-0",
            "systemPrompt": { "inline": "You are the support agent. Name the page of the manual that says so." },
            "parameters": { "temperature": "0.2", "maxOutputTokens": 512 },
        });
        objects.agents.create(&PostParams::default(), &object("AgentConfig", DESK, spec)?).await?;
        Ok(objects)
    }

    /// Edits the AgentConfig; the model shows it in every answer. Returns when the API server replied.
    pub(super) async fn edit_agent(&self, model: &str) -> anyhow::Result<Instant> {
        self.agents.patch(DESK, &PatchParams::default(), &Patch::Merge(json!({ "spec": { "model": model } }))).await?;
        Ok(Instant::now())
    }

    /// Creates a Tenant.
    pub(super) async fn create_tenant(&self, name: &str) -> anyhow::Result<()> {
        let spec = json!({
            "agents": [{ "name": "main", "configRef": { "name": DESK } }], "database": { "deletionPolicy": "Delete" },
        });
        self.tenants.create(&PostParams::default(), &object("Tenant", name, spec)?).await?;
        Ok(())
    }

    /// Waits until a Tenant is Ready; returns its users.
    pub(super) async fn ready_users(&self, name: &str) -> anyhow::Result<User> {
        let status = eventually(LONG, &format!("Tenant {name} is Ready"), || async {
            let tenant = self.tenants.get(name).await?;
            let status = tenant.data["status"].clone();
            anyhow::ensure!(is_ready(&status, tenant.metadata.generation), "it says {}", status["conditions"]);
            Ok(status)
        })
        .await?;
        let secret = status["keys"]["secretName"].as_str().context("the status names no signing Secret")?;
        User::new(name, &SigningKey::from_secret(&self.secrets.get(secret).await?)?)
    }

    /// Changes the instructions in a tenant's entry, and waits until they are served.
    pub(super) async fn instruct_tenant(&self, name: &str, instructions: &str) -> anyhow::Result<()> {
        let agent =
            json!({ "name": "main", "configRef": { "name": DESK }, "overrides": { "instructions": instructions } });
        let patch = json!({ "spec": { "agents": [agent] } });
        self.tenants.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.ready_users(name).await.map(drop)
    }

    /// Deletes a Tenant and waits until it is gone.
    pub(super) async fn delete_tenant(&self, name: &str) -> anyhow::Result<()> {
        self.tenants.delete(name, &DeleteParams::default()).await?;
        eventually(LONG, &format!("Tenant {name} is gone"), || async {
            anyhow::ensure!(self.tenants.get_opt(name).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// Overwrites a tenant's entry with invalid content, and waits until the operator has written it again.
    pub(super) async fn spoil_entry(&self, tenant: &str) -> anyhow::Result<()> {
        let name = format!("tenant-{tenant}");
        let patch = Patch::Merge(json!({ "stringData": { "entry.json": "{ this is not JSON" } }));
        let spoiled = self.registry.patch(&name, &PatchParams::default(), &patch).await?;
        self.wait_rewritten(&name, |now| now.resource_version() != spoiled.resource_version()).await
    }

    /// Deletes a tenant's entry, and waits until the operator has written it again.
    pub(super) async fn delete_entry(&self, tenant: &str) -> anyhow::Result<()> {
        let name = format!("tenant-{tenant}");
        let before = self.registry.get(&name).await?;
        self.registry.delete(&name, &DeleteParams::default()).await?;
        self.wait_rewritten(&name, |now| now.uid() != before.uid()).await
    }

    async fn wait_rewritten(&self, name: &str, is_new: impl Fn(&Secret) -> bool) -> anyhow::Result<()> {
        eventually(LONG, &format!("entry {name} is written again"), || async {
            anyhow::ensure!(is_new(&self.registry.get(name).await?), "it is the old one");
            Ok(())
        })
        .await
    }
}

fn object(kind: &str, name: &str, spec: Value) -> anyhow::Result<DynamicObject> {
    let object = json!({
        "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    Ok(serde_json::from_value(object)?)
}

fn is_ready(status: &Value, generation: Option<i64>) -> bool {
    let conditions = status["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
    ready && status["observedGeneration"].as_i64() == generation
}
