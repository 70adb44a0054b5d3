//! A namespace of a real cluster, with the objects that an operator would have written.

use agent_tenancy::{
    api::{AgentConfig, Tenant, names},
    domain::{
        keyring::{Keyring, NewKey},
        keys::{Algorithm, KeyBytes, Kid},
    },
};
use anyhow::Context as _;
use devkit::{CommandOutput, Environment, Places, run_command, tools};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        coordination::v1::Lease,
        core::v1::{Secret, ServiceAccount},
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    process::Command,
};

/// The one key of every tenant here.
pub const KEY: &str = "canary-0123456789-canary-0123456789";

const INCARNATION: &str = "00000000-0000-0000-0000-000000000002";

/// See the file's description.
pub struct FakeOperator {
    env: &'static Environment,
    client: Client,
    /// The namespace of all objects.
    pub namespace: String,
    dir: tempfile::TempDir,
}

impl FakeOperator {
    /// Creates a namespace; the CRDs are applied.
    pub async fn new() -> anyhow::Result<Self> {
        let env = Environment::shared().await?;
        let client = env.client().await?;
        env.apply_crds().await?;
        let namespace = env.create_namespace("plugin").await?;
        Ok(Self { env, client, namespace, dir: tempfile::tempdir()? })
    }

    async fn create<K>(&self, object: Value) -> anyhow::Result<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object)?;
        Ok(Api::namespaced(self.client.clone(), &self.namespace).create(&PostParams::default(), &object).await?)
    }

    /// Creates a Tenant without a status; `spec` is added to the default one.
    pub async fn tenant(&self, name: &str, spec: Value) -> anyhow::Result<Tenant> {
        let mut whole = json!({ "agents": [{ "name": "support", "configRef": { "name": "support-bot" } }] });
        if let (Some(whole), Value::Object(more)) = (whole.as_object_mut(), spec) {
            whole.extend(more);
        }
        let kind = json!({ "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant" });
        let mut object = json!({ "metadata": { "name": name }, "spec": whole });
        object.as_object_mut().context("an object")?.extend(kind.as_object().cloned().unwrap_or_default());
        self.create(object).await
    }

    async fn patch_status(&self, name: &str, status: Value) -> anyhow::Result<()> {
        let api = Api::<Tenant>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "status": status }));
        Ok(api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)?)
    }

    fn list_of(conditions: &[(&str, &str, &str)]) -> Value {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let one = |(type_, status, reason): &(&str, &str, &str)| {
            json!({ "type": type_, "status": status, "reason": reason, "message": format!("as {reason} has it"),
                    "observedGeneration": 1, "lastTransitionTime": now })
        };
        conditions.iter().map(one).collect()
    }

    /// Sets type, status and reason of all conditions.
    pub async fn conditions(&self, name: &str, conditions: &[(&str, &str, &str)]) -> anyhow::Result<()> {
        self.patch_status(name, json!({ "observedGeneration": 1, "conditions": Self::list_of(conditions) })).await
    }

    /// Creates a Ready Tenant with its Secret. Returns the version of its entry.
    pub async fn served_tenant(&self, name: &str) -> anyhow::Result<u64> {
        let tenant = self.tenant(name, json!({})).await?;
        let secret_name = format!("{name}-signing-keys");
        let kid = Kid::parse("kid-1").context("a kid")?;
        let verifying = KeyBytes::new(KEY.as_bytes().to_vec());
        let new = NewKey { kid, algorithm: Algorithm::HS256, verifying, private: None };
        let keyring = Keyring::first(1, new, 3600, None, Timestamp::now())?;
        let labels = json!({ names::TENANT_UID_LABEL: tenant.uid() });
        let mut secret: Secret =
            serde_json::from_value(json!({ "metadata": { "name": secret_name, "labels": labels } }))?;
        secret.data = Some(keyring.render_secret().into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect());
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let entry = api.create(&PostParams::default(), &secret).await?.resource_version().context("a version")?;
        let status = json!({
            "observedGeneration": 1,
            "tenantId": name,
            "database": { "instance": "main", "databaseId": "00000000-0000-0000-0000-000000000001",
                          "incarnation": INCARNATION, "schema": format!("at_{name}"), "role": format!("at_{name}"),
                          "schemaVersion": 1 },
            "keys": { "secretName": secret_name, "currentKid": "kid-1",
                      "ring": [{ "kid": "kid-1", "state": "Current", "algorithm": "HS256", "lastTransitionTime": "2030-01-01T00:00:00Z" }] },
            "served": { "entryVersion": entry, "servedTime": Timestamp::now() },
            "conditions": Self::list_of(&[("Accepted", "True", "Accepted"), ("Ready", "True", "Ready")])
        });
        self.patch_status(name, status).await?;
        Ok(entry.parse()?)
    }

    /// An AgentConfig that is Ready at that revision.
    pub async fn agent_config(&self, name: &str, revision: i64) -> anyhow::Result<()> {
        let spec =
            json!({ "provider": { "type": "Echo" }, "model": "echo-1", "parameters": { "maxOutputTokens": 64 } });
        let object = json!({ "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "AgentConfig",
                             "metadata": { "name": name }, "spec": spec });
        self.create::<AgentConfig>(object).await?;
        let status = json!({ "observedGeneration": 1, "revision": revision,
                             "conditions": Self::list_of(&[("Ready", "True", "Ready")]) });
        let api = Api::<AgentConfig>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "status": status }));
        Ok(api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)?)
    }

    /// A replica's Lease that acknowledges everything up to `version`.
    pub async fn replica(&self, name: &str, version: u64) -> anyhow::Result<()> {
        let ack = json!({ "process": INCARNATION, "version": version, "format": 1 });
        let object = json!({
            "metadata": { "name": name, "labels": { names::ACK_LABEL: names::ACK_LABEL_VALUE },
                          "annotations": { names::ACK_ANNOTATION: ack.to_string() } },
            "spec": { "leaseDurationSeconds": 60, "renewTime": format!("{:.6}", Timestamp::now()) }
        });
        self.create::<Lease>(object).await.map(drop)
    }

    /// Deletes a Tenant; without an operator there is no finalizer, so it is gone at once.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let api = Api::<Tenant>::namespaced(self.client.clone(), &self.namespace);
        Ok(api.delete(name, &DeleteParams::default()).await.map(drop)?)
    }

    /// A kubeconfig of a user that may only get and list Tenants of this namespace.
    pub async fn reader_of_tenants(&self) -> anyhow::Result<PathBuf> {
        self.create::<ServiceAccount>(json!({ "metadata": { "name": "reader" } })).await?;
        let rule = json!({ "apiGroups": [names::GROUP], "resources": ["tenants"], "verbs": ["get", "list", "watch"] });
        self.create::<Role>(json!({ "metadata": { "name": "reader" }, "rules": [rule] })).await?;
        let subject = json!({ "kind": "ServiceAccount", "name": "reader", "namespace": self.namespace });
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" });
        let binding = json!({ "metadata": { "name": "reader" }, "roleRef": role, "subjects": [subject] });
        self.create::<RoleBinding>(binding).await?;
        self.env.service_account_kubeconfig(&self.namespace, "reader", self.dir.path()).await
    }

    /// The administrator's kubeconfig with another server in it.
    pub fn kubeconfig_to(&self, server: &str) -> anyhow::Result<PathBuf> {
        let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(self.env.kubeconfig_path()?)?)?;
        config["clusters"][0]["cluster"]["server"] = server.into();
        let path = self.dir.path().join("elsewhere.kubeconfig");
        std::fs::write(&path, serde_yaml::to_string(&config)?)?;
        Ok(path)
    }

    /// Runs the plugin as the cluster's administrator.
    pub async fn plugin(&self, args: &[&str]) -> anyhow::Result<CommandOutput> {
        self.plugin_as(self.env.kubeconfig_path()?, args).await
    }

    /// Runs the plugin with that kubeconfig, in this namespace where the arguments don't say otherwise.
    pub async fn plugin_as(&self, kubeconfig: &Path, args: &[&str]) -> anyhow::Result<CommandOutput> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-tenant"));
        command.env("KUBECONFIG", kubeconfig).args(args);
        let elsewhere = args.iter().any(|arg| ["-A", "-n"].contains(arg));
        if !elsewhere {
            command.args(["--namespace", &self.namespace]);
        }
        run_command(command, &[], None).await
    }

    /// A command of the plugin, with variables, on a kubeconfig.
    pub async fn plugin_with(
        &self,
        kubeconfig: &Path,
        variables: &[(&str, &str)],
        args: &[&str],
    ) -> anyhow::Result<CommandOutput> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-tenant"));
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.env("KUBECONFIG", kubeconfig).envs(variables.iter().copied());
        command.args(args).args(["--namespace", &self.namespace]);
        run_command(command, &[], None).await
    }

    /// The administrator's kubeconfig, with changed fields of the cluster.
    pub fn kubeconfig_with(&self, change: impl FnOnce(&mut Value)) -> anyhow::Result<PathBuf> {
        let mut config: Value = serde_yaml::from_str(&std::fs::read_to_string(self.env.kubeconfig_path()?)?)?;
        change(&mut config["clusters"][0]["cluster"]);
        let path = self.dir.path().join(format!("{}.kubeconfig", devkit::unique("changed")));
        std::fs::write(&path, serde_yaml::to_string(&config)?)?;
        Ok(path)
    }

    /// Runs the real kubectl, with the plugin on its search path.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<CommandOutput> {
        let kubectl = tools::control_plane(&Places::from_env()?)?.kubectl;
        let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-tenant")).parent().context("a folder")?;
        let mut path = vec![plugin.to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new(kubectl);
        command.env("KUBECONFIG", self.env.kubeconfig_path()?).env("PATH", std::env::join_paths(path)?).args(args);
        run_command(command, &[], None).await
    }
}
