//! A fresh installation: control plane, Postgres, the chart. Operator and replicas run beside the cluster as the chart's
//! ServiceAccounts and with the chart's settings, so that their rights and the API server's fairness towards them are
//! those of real Pods.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::Programs;
use crate::{Component, Environment, Options, Process, Release, TestDatabase};

const READY: Duration = Duration::from_secs(60);
/// Namespace of the release.
const NAMESPACE: &str = "agent-tenancy";
/// The repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// An installation whose programs are not started yet. Everything ends with it.
pub struct Site {
    env: Environment,
    database: TestDatabase,
    release: Release,
    dir: PathBuf,
}

/// A running operator.
pub struct Operator {
    /// The process.
    pub process: Process,
    /// `http://…` of /metrics and health.
    pub url: String,
}

/// A running replica of the agent API.
pub struct Replica {
    /// The process.
    pub process: Process,
    /// `http://…` of the API.
    pub url: String,
    /// `http://…` of /metrics and health.
    pub health_url: String,
}

impl Site {
    /// Namespace of the registry.
    pub const REGISTRY: &str = "agent-tenancy-registry";

    /// Brings everything up. `values` are more values for the chart, such as `operator.log.level=warn`.
    pub async fn start(values: &[&str]) -> anyhow::Result<Site> {
        let env = Environment::start(Options::default()).await?;
        let database = env.postgres()?.create_database("agents").await?;
        let password = crate::unique("operator");
        prepare(&database, &password).await?;
        let (_, file) = env.file();
        let dir = file.parent().context("an environment has a folder")?.join("data/bench");
        std::fs::create_dir_all(&dir)?;
        crate::credentials::write_secret(&dir.join("operator-password"), &password)?;
        let release = install(&env, &database, values).await?;
        Ok(Site { env, database, release, dir })
    }

    /// Control plane and Postgres.
    pub fn env(&self) -> &Environment {
        &self.env
    }

    /// The installation's database.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// A client of the cluster's administrator.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.env.client().await
    }

    /// A kubeconfig of the operator's ServiceAccount.
    pub async fn operator_kubeconfig(&self) -> anyhow::Result<PathBuf> {
        self.env.service_account_kubeconfig(NAMESPACE, self.release.account(Component::Operator)?, &self.dir).await
    }

    /// Creates a namespace for Tenants.
    pub async fn create_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        let client = self.client().await?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        crate::control_plane::namespace_ready(client, name).await
    }

    /// The settings that the chart rendered for the operator.
    pub fn operator_settings(&self) -> anyhow::Result<Value> {
        Ok(serde_yaml::from_str(self.release.settings(Component::Operator)?)?)
    }

    /// Where the operator connects to the database, with its password.
    pub fn operator_database_url(&self) -> anyhow::Result<String> {
        let password = std::fs::read_to_string(self.dir.join("operator-password"))?;
        Ok(self.database.url("at_operator_a", &password))
    }

    /// Starts the operator and waits until it leads; the second time it is the same operator started again.
    pub async fn operator(&self, programs: &Programs) -> anyhow::Result<Operator> {
        self.operator_with(programs, &[]).await
    }

    /// The same with other settings: names and values of variables.
    pub async fn operator_with(&self, programs: &Programs, settings: &[(&str, &str)]) -> anyhow::Result<Operator> {
        let program = self.release.program(&self.env, Component::Operator, &programs.operator, &self.dir).await?;
        let program = program.env("AGENT_TENANCY__DATABASE__PASSWORD_FILE", self.dir.join("operator-password"));
        let program = program.env("AGENT_TENANCY__LEADER_ELECTION__IDENTITY_FILE", self.dir.join("operator-identity"));
        let program = settings.iter().fold(program, |program, (name, value)| program.env(name, value));
        let (program, address, _) = program.on_free_ports()?;
        let process = self.env.spawn(program.spec("tenant-operator"))?;
        let url = format!("http://{address}");
        process.wait_http(&format!("{url}/readyz"), READY).await?;
        Ok(Operator { process, url })
    }

    /// Starts a replica of the agent API and waits until it is ready.
    pub async fn replica(&self, programs: &Programs) -> anyhow::Result<Replica> {
        let program = self.release.program(&self.env, Component::AgentApi, &programs.agent_api, &self.dir).await?;
        let program = program.env("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", self.release.namespace());
        let (program, address, health) = program.on_free_ports()?;
        let process = self.env.spawn(program.spec("agent-api"))?;
        let (url, health_url) = (format!("http://{address}"), format!("http://{health}"));
        process.wait_http(&format!("{health_url}/readyz"), READY).await?;
        Ok(Replica { process, url, health_url })
    }

    /// Ends every process and removes the data.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.env.stop().await
    }
}

async fn install(env: &Environment, database: &TestDatabase, values: &[&str]) -> anyhow::Result<Release> {
    let client = env.client().await?;
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    // The chart names it in the Pod's template; nothing here reads it, because there are no Pods.
    let secret: Secret = serde_json::from_value(json!({ "metadata": { "name": "operator-database" } }))?;
    Api::namespaced(client, NAMESPACE).create(&PostParams::default(), &secret).await?;
    let TestDatabase { name, host, port, .. } = database;
    let own = [
        format!("database.host={host},database.port={port},database.database={name}"),
        "database.sslMode=disable,database.passwordSecret.name=operator-database".to_owned(),
        // No node: nothing runs as a Pod, and a replica is whoever acknowledges.
        "operator.replicas=0,agentApi.replicas=0,operator.config.agentApi.replicaSource=Leases".to_owned(),
    ];
    let chart = Path::new(REPOSITORY).join("charts/agent-tenancy").display().to_string();
    let mut args = vec!["install", "agent-tenancy", &chart, "-n", NAMESPACE, "--hide-notes"];
    for value in own.iter().map(String::as_str).chain(values.iter().copied()) {
        args.extend(["--set", value]);
    }
    env.helm(&args).await?.ok()?;
    Release::installed(env, "agent-tenancy", NAMESPACE).await
}

/// What the database's administrator does.
async fn prepare(database: &TestDatabase, password: &str) -> anyhow::Result<()> {
    let bootstrap = std::fs::read_to_string(Path::new(REPOSITORY).join("config/sql/bootstrap.sql"))?;
    let text = format!("SET agent_tenancy.operator_password = '{password}';\n{bootstrap}");
    let mut connection = PgConnection::connect(&database.superuser_url()).await?;
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}
