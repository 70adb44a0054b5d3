//! An installation with clients of its objects. Its programs run beside the cluster, as the chart's ServiceAccounts and with
//! the chart's permissions and settings.

use agent_tenancy::api::{AgentConfig, Tenant};
use anyhow::Context as _;
use devkit::{
    Environment, InstallationBuilder, PgVersion, Postgres, ProgramFiles, SigningKey, TestInstallation, TestToken,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    time::Duration,
};

/// Timeout of every wait: long enough for a debug build on a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

/// The operator's password.
pub const PASSWORD: &str = "operator-canary";

/// See the file's description.
pub struct Installation {
    installation: TestInstallation,
    pub tenants: Api<Tenant>,
    pub agents: Api<AgentConfig>,
    pub secrets: Api<Secret>,
    pub registry: Api<Secret>,
    /// Set by a test that removes permissions.
    pub denials_are_expected: bool,
}

impl Deref for Installation {
    type Target = TestInstallation;

    fn deref(&self) -> &TestInstallation {
        &self.installation
    }
}

impl DerefMut for Installation {
    fn deref_mut(&mut self) -> &mut TestInstallation {
        &mut self.installation
    }
}

impl Installation {
    /// On the shared control plane and the shared Postgres server of that version.
    pub async fn new(version: PgVersion) -> anyhow::Result<Self> {
        Self::on(Environment::shared().await?, &Postgres::shared(version).await?).await
    }

    /// On this control plane and this Postgres server. Whatever holds a Lease counts as a replica.
    pub async fn on(env: &Environment, server: &Postgres) -> anyhow::Result<Self> {
        Self::with(env, server, json!({ "agentApi": { "replicaSource": "Leases" } })).await
    }

    /// As [`Installation::on`], with these settings of the operator laid over those that the chart makes.
    pub async fn with(env: &Environment, server: &Postgres, settings: Value) -> anyhow::Result<Self> {
        Self::build(env, |builder| builder.server(server).settings(settings)).await
    }

    /// As [`Installation::new`]; the operator watches a second namespace.
    pub async fn of_two_namespaces(version: PgVersion) -> anyhow::Result<(Self, String)> {
        let (env, server) = (Environment::shared().await?, Postgres::shared(version).await?);
        let second = env.create_namespace("second").await?;
        let installation = Self::build(env, |builder| builder.server(&server).also_watching(&second)).await?;
        Ok((installation, second))
    }

    /// The same installation, seen from another namespace with Tenants; returns the name of the earlier one.
    pub async fn enter(&mut self, namespace: &str) -> anyhow::Result<String> {
        let client = self.client().await?;
        self.tenants = Api::namespaced(client.clone(), namespace);
        self.agents = Api::namespaced(client.clone(), namespace);
        self.secrets = Api::namespaced(client, namespace);
        Ok(std::mem::replace(&mut self.installation.tenants_namespace, namespace.to_owned()))
    }

    async fn build(
        env: &Environment,
        with: impl FnOnce(InstallationBuilder) -> InstallationBuilder,
    ) -> anyhow::Result<Self> {
        let programs = ProgramFiles {
            operator: env!("CARGO_BIN_EXE_tenant-operator").into(),
            agent_api: env!("CARGO_BIN_EXE_agent-api").into(),
        };
        let values = json!({
            "adminApi": { "enabled": true },
            // No heartbeat falls into a time in which round trips are counted.
            "clusterHeartbeatTimeoutSeconds": 86_400,
            "operator": { "ackTimeoutSeconds": 5 },
        });
        let builder = TestInstallation::builder(env, programs).password(PASSWORD).values(values);
        let installation = with(builder).create().await?;
        let client = installation.client().await?;
        let namespace = &installation.tenants_namespace;
        Ok(Self {
            tenants: Api::namespaced(client.clone(), namespace),
            agents: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client.clone(), namespace),
            registry: Api::namespaced(client, &installation.registry_namespace),
            denials_are_expected: false,
            installation,
        })
    }

    /// Applies an AgentConfig with the built-in provider.
    pub async fn agent(&self, name: &str, prompt: &str) -> anyhow::Result<AgentConfig> {
        let object = json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "AgentConfig", "metadata": { "name": name },
            "spec": {
                "provider": { "type": "Echo" }, "model": "echo-1", "systemPrompt": { "inline": prompt },
                "parameters": { "maxOutputTokens": 64 },
            },
        });
        let params = PatchParams::apply("operator-test").force();
        Ok(self.agents.patch(name, &params, &Patch::Apply(&object)).await?)
    }

    /// Creates a Tenant that uses AgentConfig `support`.
    pub async fn tenant(&self, name: &str, policy: &str) -> anyhow::Result<Tenant> {
        self.tenant_with(name, json!({ "database": { "deletionPolicy": policy } })).await
    }

    /// The same with these fields of the spec.
    pub async fn tenant_with(&self, name: &str, mut spec: Value) -> anyhow::Result<Tenant> {
        spec["agents"] = json!([{ "name": "main", "configRef": { "name": "support" } }]);
        let object: Tenant = serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant", "metadata": { "name": name }, "spec": spec,
        }))?;
        Ok(self.tenants.create(&PostParams::default(), &object).await?)
    }

    /// Deletes a Tenant.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.tenants.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Merges a patch into a Tenant.
    pub async fn patch(&self, name: &str, patch: Value) -> anyhow::Result<()> {
        self.tenants.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Sets an annotation of a Tenant, or removes it.
    pub async fn annotate<'a>(
        &self,
        name: &str,
        annotation: &str,
        value: impl Into<Option<&'a str>>,
    ) -> anyhow::Result<()> {
        let value: Option<&str> = value.into();
        self.patch(name, json!({ "metadata": { "annotations": { annotation: value } } })).await
    }

    /// A tenant's current signing key.
    pub async fn signing_key(&self, tenant: &str) -> anyhow::Result<SigningKey> {
        SigningKey::from_secret(&self.secrets.get(&format!("{tenant}-signing-keys")).await?)
    }

    /// A token of a user of a tenant, signed with its current key.
    pub async fn token(&self, tenant: &str) -> anyhow::Result<String> {
        TestToken::new(tenant, "load").sign(&self.signing_key(tenant).await?)
    }

    /// The incarnation of a tenant's data.
    pub async fn incarnation(&self, name: &str) -> anyhow::Result<String> {
        let status = self.tenants.get(name).await?.status.context("no status")?;
        Ok(status.database.context("no database")?.incarnation)
    }
}

impl Drop for Installation {
    /// No test may need a permission that the chart doesn't grant.
    fn drop(&mut self) {
        if self.denials_are_expected || std::thread::panicking() {
            return;
        }
        // A control plane that a test started for itself may keep no audit log.
        let requests = self.env.requests_from(self.release.namespace()).unwrap_or_default();
        let forbidden: BTreeSet<_> = requests.into_iter().filter(|request| request.is_forbidden).collect();
        assert!(forbidden.is_empty(), "the chart does not grant: {forbidden:#?}");
    }
}
