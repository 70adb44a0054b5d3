//! One installation with namespaces, a database and a name prefix of its own. Its programs run beside the cluster, as the
//! chart's ServiceAccounts and with the chart's rights and settings.

use agent_tenancy::{
    api::{AgentConfig, Tenant, crd},
    domain::{ident::NamePrefix, migrations::render_bootstrap},
};
use anyhow::Context as _;
use devkit::{
    Component, Environment, PgVersion, Postgres, Process, Program, Proxy, Release, TestDatabase, eventually, unique,
};
use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Long enough for a debug build on a busy machine; nothing waits longer than it must.
pub const LONG: Duration = Duration::from_secs(120);

/// The operator's password.
pub const PASSWORD: &str = "operator-canary";

/// See the file's description.
pub struct Fleet {
    pub env: &'static Environment,
    pub tenants: Api<Tenant>,
    pub agents: Api<AgentConfig>,
    pub secrets: Api<Secret>,
    pub registry: Api<Secret>,
    pub release: Release,
    operator: Program,
    agent_api: Program,
    /// A story that takes rights away says so.
    pub denials_are_expected: bool,
    pub prefix: String,
    database: String,
    pub superuser_url: String,
    dir: tempfile::TempDir,
    pub test_database: TestDatabase,
}

/// A running operator, and where its metrics are, and its plans.
pub struct Operator {
    pub process: Process,
    pub address: String,
    pub plan: String,
}

impl Fleet {
    /// On the shared control plane and the shared Postgres server of that version.
    pub async fn new(version: PgVersion) -> anyhow::Result<Self> {
        Self::on(Environment::shared().await?, &Postgres::shared(version).await?).await
    }

    /// On this control plane and this Postgres server, whose administrator has done his part. A replica is whoever
    /// acknowledges.
    pub async fn on(env: &'static Environment, server: &Postgres) -> anyhow::Result<Self> {
        Self::with(env, server, json!({ "agentApi": { "replicaSource": "Leases" } })).await
    }

    /// As [`Fleet::on`], with these settings of the operator laid over those that the chart makes.
    pub async fn with(env: &'static Environment, server: &Postgres, settings: Value) -> anyhow::Result<Self> {
        let client = env.client().await?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for (_, crd) in crd::definitions() {
            let name = crd.name_any();
            crds.patch(&name, &PatchParams::apply("operator-test").force(), &Patch::Apply(&crd)).await?;
        }
        eventually(Duration::from_secs(30), "the CRDs are served", || async {
            Api::<Tenant>::all(client.clone()).list_metadata(&ListParams::default()).await?;
            Ok(Api::<AgentConfig>::all(client.clone()).list_metadata(&ListParams::default()).await.map(drop)?)
        })
        .await?;
        let [namespace, system, registry_namespace] = [
            env.create_namespace("tenants").await?,
            env.create_namespace("system").await?,
            env.create_namespace("registry").await?,
        ];
        let database = server.create_database(&unique("fleet")).await?;
        let prefix: String =
            format!("f{}", unique("").chars().filter(char::is_ascii_alphanumeric).rev().take(8).collect::<String>());
        let prefix = prefix.to_ascii_lowercase();
        let values = json!({
            "crds": { "install": false },
            "scope": { "namespaces": [namespace] },
            "registry": { "namespace": registry_namespace, "createNamespace": false },
            // The cluster's own roles are everybody's.
            "rbac": { "aggregate": false },
            "plan": { "enabled": true },
            // No sign of life falls into a time in which round trips are counted.
            "clusterSilenceSeconds": 86_400,
            "database": {
                "host": database.host, "port": database.port, "database": database.name, "sslMode": "disable",
                "user": format!("{prefix}_operator_a"), "namePrefix": prefix,
                "passwordSecret": { "name": "operator-database" },
            },
            "operator": { "ackTimeoutSeconds": 5, "config": settings },
        });
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/agent-tenancy");
        let release = Release::render(env, &chart, "fleet", &system, &values).await?;
        release.grant(env).await?;
        let dir = tempfile::tempdir()?;
        let operator = Path::new(env!("CARGO_BIN_EXE_tenant-operator"));
        let agent_api = Path::new(env!("CARGO_BIN_EXE_agent-api"));
        let fleet = Self {
            env,
            tenants: Api::namespaced(client.clone(), &namespace),
            agents: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            registry: Api::namespaced(client.clone(), &registry_namespace),
            operator: release.program(env, Component::Operator, operator, dir.path()).await?,
            agent_api: release.program(env, Component::AgentApi, agent_api, dir.path()).await?,
            release,
            denials_are_expected: false,
            prefix,
            database: database.name.clone(),
            superuser_url: database.superuser_url(),
            dir,
            test_database: database,
        };
        fleet.write_password(PASSWORD)?;
        fleet.prepare().await?;
        Ok(fleet)
    }

    /// The programs started from now on get this variable too; `AGENT_TENANCY__…` overrides a setting.
    pub fn set(&mut self, component: Component, name: &str, value: impl Into<OsString>) {
        let program = match component {
            Component::Operator => &mut self.operator,
            Component::AgentApi => &mut self.agent_api,
        };
        *program = program.clone().env(name, value);
    }

    /// The programs started from now on reach the API server through a proxy; their watches are short.
    pub async fn through_proxy(&mut self) -> anyhow::Result<Proxy> {
        let proxy = Proxy::start(self.env.kubeconfig_path()?).await?;
        for component in [Component::Operator, Component::AgentApi] {
            let program = if component == Component::Operator { &self.operator } else { &self.agent_api };
            let own = program.variable("KUBECONFIG").context("a program without a kubeconfig")?;
            let through = proxy.kubeconfig(Path::new(own))?;
            self.set(component, "KUBECONFIG", through);
        }
        self.set(Component::Operator, "AGENT_TENANCY__WATCH_SECONDS", "2");
        self.set(Component::AgentApi, "AGENT_TENANCY__REGISTRY__WATCH_SECONDS", "2");
        Ok(proxy)
    }

    /// A database of the same name, as new, on a server that lost everything.
    pub async fn make_database_again(&self, server: &Postgres) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&server.superuser_url("postgres")).await?;
        let create = format!("CREATE DATABASE \"{}\"", self.database);
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        connection.close().await?;
        self.prepare().await
    }

    /// What the database's administrator does.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        let prefix = NamePrefix::parse(&self.prefix)?;
        let mut connection = PgConnection::connect(&self.superuser_url).await?;
        sqlx::raw_sql(AssertSqlSafe(render_bootstrap(&prefix, PASSWORD)?)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Where the operator reads it.
    pub fn password_file(&self) -> PathBuf {
        self.dir.path().join("password")
    }

    /// What the operator uses as its password.
    pub fn write_password(&self, password: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.password_file(), password)?)
    }

    /// From now on its programs reach the database over TLS, under the name of its certificate, and trust this authority.
    pub fn over_tls(&mut self, host: &str, authority: &Path) {
        self.operator = (self.operator.clone())
            .env("AGENT_TENANCY__DATABASE__HOST", host)
            .env("AGENT_TENANCY__DATABASE__SSL_MODE", "verify-full")
            .env("AGENT_TENANCY__DATABASE__SSL_ROOT_CERT_FILE", authority);
        self.agent_api = self.agent_api.clone().env("AGENT_TENANCY__DATABASE__ROOT_CERTIFICATES", authority);
    }

    /// Starts an operator and waits until it is ready: it leads, or another one does. The same `identity` is the same operator started again.
    pub async fn operator(&self, identity: &str) -> anyhow::Result<Operator> {
        let operator = self.spawn_operator(identity)?;
        operator.process.wait_http(&format!("http://{}/readyz", operator.address), LONG).await?;
        Ok(operator)
    }

    /// Starts an operator.
    pub fn spawn_operator(&self, identity: &str) -> anyhow::Result<Operator> {
        let plan = devkit::free_port()?;
        let program = self
            .operator
            .clone()
            .env("AGENT_TENANCY__DATABASE__PASSWORD_FILE", self.password_file())
            .env("AGENT_TENANCY__LEADER_ELECTION__IDENTITY_FILE", self.dir.path().join(identity))
            // On every address, because the API server goes to no loopback one.
            .env("AGENT_TENANCY__PLAN__HTTP_ADDRESS", format!("0.0.0.0:{plan}"));
        let (program, address, _) = program.on_free_ports()?;
        let spec = program.spec("tenant-operator").log(self.log(&format!("operator-{identity}")));
        Ok(Operator { process: self.env.spawn(spec)?, address, plan: format!("127.0.0.1:{plan}") })
    }

    /// Beside the logs of the environment.
    fn log(&self, name: &str) -> PathBuf {
        self.env.logs().join(format!("{name}-{}.log", self.prefix))
    }

    /// Starts a replica of the agent API beside the cluster and waits until it is ready.
    pub async fn replica(&self) -> anyhow::Result<(Process, String)> {
        let (process, address, _) = self.replica_with(&self.beside()).await?;
        Ok((process, address))
    }

    /// The same, and the URL of its health.
    pub async fn replica_with_health(&self) -> anyhow::Result<(Process, String, String)> {
        self.replica_with(&self.beside()).await
    }

    /// What a replica beside the cluster is told that one in a Pod knows.
    fn beside(&self) -> [(&str, &str); 1] {
        [("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", self.release.namespace())]
    }

    /// Starts a replica with these variables and waits until it is ready; the process, the URLs of the API and of health.
    pub async fn replica_with(&self, variables: &[(&str, &str)]) -> anyhow::Result<(Process, String, String)> {
        let program = variables.iter().fold(self.agent_api.clone(), |program, (name, value)| program.env(name, *value));
        let (program, address, health) = program.on_free_ports()?;
        let spec = program.spec("agent-api").log(self.log(&format!("agent-api-{}", health.replace(':', "-"))));
        let process = self.env.spawn(spec)?;
        process.wait_http(&format!("http://{health}/readyz"), LONG).await?;
        Ok((process, format!("http://{address}"), format!("http://{health}")))
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
}

impl Drop for Fleet {
    /// No story may need a right that the chart doesn't grant.
    fn drop(&mut self) {
        if self.denials_are_expected || std::thread::panicking() {
            return;
        }
        // A control plane that a story started for itself may keep no audit log.
        let requests = self.env.requests_from(self.release.namespace()).unwrap_or_default();
        let forbidden: BTreeSet<_> = requests.into_iter().filter(|request| request.is_forbidden).collect();
        assert!(forbidden.is_empty(), "the chart does not grant: {forbidden:#?}");
    }
}
