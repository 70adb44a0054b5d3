//! What differs between installations, and making one.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{InstallationDatabase, TestInstallation};
use crate::{Component, Environment, Postgres, Release, repository, tools::is_program, unique};

/// Where the product's programs are.
#[derive(Clone, Debug)]
pub struct ProgramFiles {
    /// `tenant-operator`.
    pub operator: PathBuf,
    /// `agent-api`.
    pub agent_api: PathBuf,
}

impl ProgramFiles {
    /// Those that were built together with this program.
    pub fn beside_this_program() -> anyhow::Result<ProgramFiles> {
        let this = std::env::current_exe().context("the path of this program is not known")?;
        let file = |name: &str| {
            let path = this.with_file_name(name);
            anyhow::ensure!(
                is_program(&path),
                "there is no {}; build everything at once: cargo build --release --workspace --bins",
                path.display()
            );
            Ok(path)
        };
        Ok(ProgramFiles { operator: file("tenant-operator")?, agent_api: file("agent-api")? })
    }
}

/// An installation before it is made. Each has namespaces, a database and a name prefix of its own, so that many fit into
/// one control plane.
#[must_use]
pub struct InstallationBuilder {
    env: Environment,
    programs: ProgramFiles,
    server: Option<Postgres>,
    password: String,
    values: Value,
    settings: Value,
    is_scoped: bool,
    also_watched: Vec<String>,
}

impl InstallationBuilder {
    pub(super) fn new(env: &Environment, programs: ProgramFiles) -> InstallationBuilder {
        InstallationBuilder {
            env: env.clone(),
            programs,
            server: None,
            password: unique("operator"),
            values: json!({}),
            settings: json!({ "agentApi": { "replicaSource": "Leases" } }),
            is_scoped: true,
            also_watched: Vec::new(),
        }
    }

    /// The database is on this server.
    pub fn server(self, server: &Postgres) -> InstallationBuilder {
        InstallationBuilder { server: Some(server.clone()), ..self }
    }

    /// The operator's password in the database; a random one if none is given.
    pub fn password(self, password: &str) -> InstallationBuilder {
        InstallationBuilder { password: password.to_owned(), ..self }
    }

    /// Chart values, laid over those that say where the namespaces and the database are.
    pub fn values(self, values: Value) -> InstallationBuilder {
        InstallationBuilder { values, ..self }
    }

    /// The operator's settings that have no chart value of their own (`operator.config`). Without this call, a replica of
    /// the agent API is whatever holds a Lease; with it, the chart's default counts: Pods.
    pub fn settings(self, settings: Value) -> InstallationBuilder {
        InstallationBuilder { settings, ..self }
    }

    /// The operator watches this namespace besides the Tenants' own.
    pub fn also_watching(mut self, namespace: &str) -> InstallationBuilder {
        self.also_watched.push(namespace.to_owned());
        self
    }

    /// The operator watches every namespace of the cluster, as the chart installs it by default.
    pub fn unscoped(self) -> InstallationBuilder {
        InstallationBuilder { is_scoped: false, ..self }
    }

    /// Creates the namespaces and the database, applies the CRDs and the chart's permissions. No program is started.
    pub async fn create(self) -> anyhow::Result<TestInstallation> {
        let InstallationBuilder { env, programs, server, password, values: more, settings, is_scoped, also_watched } =
            self;
        env.apply_crds().await?;
        let [tenants_namespace, system, registry_namespace] = [
            env.create_namespace("tenants").await?,
            env.create_namespace("system").await?,
            env.create_namespace("registry").await?,
        ];
        let server = server.map_or_else(|| env.postgres().cloned(), Ok)?;
        let database = InstallationDatabase::bootstrapped(&server, &password).await?;
        let mut values = json!({
            "crds": { "install": false },
            "registry": { "namespace": registry_namespace, "createNamespace": false },
            // The cluster's roles `view`, `edit` and `admin` are shared by all installations.
            "rbac": { "aggregate": false },
            "database": {
                "host": database.host, "port": database.port, "database": database.name,
                "sslMode": "disable", "user": database.operator_login(), "namePrefix": database.prefix,
                "passwordSecret": { "name": "operator-database" },
            },
            "operator": { "config": settings },
        });
        if is_scoped {
            let namespaces = [std::slice::from_ref(&tenants_namespace), &also_watched[..]].concat();
            values["scope"] = json!({ "namespaces": namespaces });
        }
        merge(&mut values, more);
        let chart = repository().join("charts/agent-tenancy");
        let release = Release::render(&env, &chart, "test", &system, &values).await?;
        release.grant(&env).await?;
        let folder = env.create_folder("installation")?;
        let has_admin_api = values["adminApi"]["enabled"] == true;
        Parts { release, database, tenants_namespace, registry_namespace, folder, has_admin_api }
            .assemble(env, &programs)
            .await
    }
}

/// What an installation consists of, besides its programs.
pub(crate) struct Parts {
    /// The chart as it was rendered or installed.
    pub(crate) release: Release,
    pub(crate) database: InstallationDatabase,
    /// Namespace of the Tenants.
    pub(crate) tenants_namespace: String,
    /// Namespace of the registry.
    pub(crate) registry_namespace: String,
    /// For kubeconfigs, settings and passwords of the programs.
    pub(crate) folder: PathBuf,
    /// Whether the chart's values enable the operator's admin API.
    pub(crate) has_admin_api: bool,
}

impl Parts {
    /// Adds the programs, which run as the release's ServiceAccounts and with its settings.
    pub(crate) async fn assemble(self, env: Environment, programs: &ProgramFiles) -> anyhow::Result<TestInstallation> {
        let Parts { release, database, tenants_namespace, registry_namespace, folder, has_admin_api } = self;
        let installation = TestInstallation {
            operator: release.program(&env, Component::Operator, &programs.operator, &folder).await?,
            agent_api: release.program(&env, Component::AgentApi, &programs.agent_api, &folder).await?,
            env,
            release,
            database,
            tenants_namespace,
            registry_namespace,
            folder,
            has_admin_api,
        };
        installation.write_password(installation.database.operator_password())?;
        Ok(installation)
    }
}

/// Lays `over` over `under`: objects are merged, everything else is replaced.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}
