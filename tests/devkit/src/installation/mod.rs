//! One installation of agent-tenancy: namespaces, a database, the chart's permissions and settings; operator and agent API
//! run as processes beside the cluster, as the chart's ServiceAccounts.
//!
//! | file | what is there |
//! | --- | --- |
//! | `builder` | [`InstallationBuilder`]: what differs between installations |
//! | `database` | [`InstallationDatabase`], prepared as an administrator does it |
//! | `programs` | [`RunningOperator`], [`RunningReplica`] |

mod builder;
mod database;
mod programs;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use kube::Client;

use crate::{
    Component, Environment, Process, Program, Proxy, Release, control_plane, credentials::write_secret, free_port,
};

pub(crate) use builder::Parts;
pub use builder::{InstallationBuilder, ProgramFiles};
pub use database::InstallationDatabase;
pub use programs::{RunningOperator, RunningReplica};

/// Until a program is ready. Long enough for a debug build on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// See the module's description. Its programs are started one by one, as often as a test needs them.
pub struct TestInstallation {
    /// The control plane it is in.
    pub env: Environment,
    /// The chart as it was rendered or installed.
    pub release: Release,
    /// Its database.
    pub database: InstallationDatabase,
    /// Namespace of the Tenants.
    pub tenants_namespace: String,
    /// Namespace of the registry.
    pub registry_namespace: String,
    operator: Program,
    agent_api: Program,
    folder: PathBuf,
    has_admin_api: bool,
}

impl TestInstallation {
    /// Describes an installation in that control plane. Its database is on the environment's default server if no other
    /// one is chosen.
    pub fn builder(env: &Environment, programs: ProgramFiles) -> InstallationBuilder {
        InstallationBuilder::new(env, programs)
    }

    /// A client of the cluster's administrator.
    pub async fn client(&self) -> anyhow::Result<Client> {
        self.env.client().await
    }

    /// A client of a component's ServiceAccount.
    pub async fn client_of(&self, component: Component) -> anyhow::Result<Client> {
        let kubeconfig = self.program(component).variable("KUBECONFIG").context("a program without a kubeconfig")?;
        Ok(Client::try_from(control_plane::config(Path::new(kubeconfig)).await?)?)
    }

    /// The first column of each row of the database, as the superuser sees it.
    pub async fn column(&self, query: impl Into<String>) -> anyhow::Result<Vec<String>> {
        self.database.column(query).await
    }

    /// Runs statements in the database as the superuser.
    pub async fn execute(&self, statements: &str) -> anyhow::Result<()> {
        self.database.execute(statements).await
    }

    /// Name of a tenant's schema and role, or of another role of the installation.
    pub fn schema(&self, name: &str) -> String {
        self.database.schema(name)
    }

    /// Where the operator reads its password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.join("operator-password")
    }

    /// Changes the password that the operator uses.
    pub fn write_password(&self, password: &str) -> anyhow::Result<()> {
        write_secret(&self.password_file(), password)
    }

    fn program(&self, component: Component) -> &Program {
        match component {
            Component::Operator => &self.operator,
            Component::AgentApi => &self.agent_api,
        }
    }

    /// The programs started from now on get this variable too; `AGENT_TENANCY__…` overrides a setting.
    pub fn set(&mut self, component: Component, name: &str, value: impl Into<OsString>) {
        let program = self.program(component).clone().env(name, value);
        match component {
            Component::Operator => self.operator = program,
            Component::AgentApi => self.agent_api = program,
        }
    }

    /// The programs started from now on don't get a variable any more that [`TestInstallation::set`] has set.
    pub fn unset(&mut self, component: Component, name: &str) {
        let program = self.program(component).clone().env_remove(name);
        match component {
            Component::Operator => self.operator = program,
            Component::AgentApi => self.agent_api = program,
        }
    }

    /// The programs started from now on reach the API server through a proxy; their watches are short.
    pub async fn through_proxy(&mut self) -> anyhow::Result<Proxy> {
        let proxy = Proxy::start(self.env.kubeconfig_path()?).await?;
        for component in [Component::Operator, Component::AgentApi] {
            let direct = self.program(component).variable("KUBECONFIG").context("a program without a kubeconfig")?;
            let through = proxy.kubeconfig(Path::new(direct))?;
            self.set(component, "KUBECONFIG", through);
        }
        self.set(Component::Operator, "AGENT_TENANCY__WATCH_SECONDS", "2");
        self.set(Component::AgentApi, "AGENT_TENANCY__REGISTRY__WATCH_SECONDS", "2");
        Ok(proxy)
    }

    /// The programs started from now on reach the database over TLS, under the host name of its certificate, and trust
    /// this CA.
    pub fn over_tls(&mut self, host: &str, ca_file: &Path) {
        for (name, value) in [
            ("HOST", host.into()),
            ("SSL_MODE", "verify-full".into()),
            ("SSL_ROOT_CERT_FILE", ca_file.as_os_str().to_owned()),
        ] {
            let value: OsString = value;
            self.set(Component::Operator, &format!("AGENT_TENANCY__DATABASE__{name}"), value);
        }
        self.set(Component::AgentApi, "AGENT_TENANCY__DATABASE__ROOT_CERTIFICATES", ca_file);
    }

    /// Starts an operator and waits until it is ready: it leads, or another one does. The same `identity` is the same
    /// operator started again.
    pub async fn operator(&self, identity: &str) -> anyhow::Result<RunningOperator> {
        let operator = self.spawn_operator(identity)?;
        operator.wait_ready(READY_TIMEOUT).await?;
        Ok(operator)
    }

    /// Starts an operator.
    pub fn spawn_operator(&self, identity: &str) -> anyhow::Result<RunningOperator> {
        let mut program = self
            .operator
            .clone()
            .env("AGENT_TENANCY__DATABASE__PASSWORD_FILE", self.password_file())
            .env("AGENT_TENANCY__LEADER_ELECTION__IDENTITY_FILE", self.folder.join(identity));
        let mut admin_url = None;
        if self.has_admin_api {
            let port = free_port()?;
            // On every address, because the API server connects to no loopback address.
            program = program.env("AGENT_TENANCY__ADMIN_API__HTTP_ADDRESS", format!("0.0.0.0:{port}"));
            admin_url = Some(format!("http://127.0.0.1:{port}"));
        }
        let (program, address, _) = program.on_free_ports()?;
        let process = self.spawn(&program, "tenant-operator", &format!("operator-{identity}"))?;
        Ok(RunningOperator { process, url: format!("http://{address}"), admin_url, command: program.words() })
    }

    /// Starts a replica of the agent API and waits until it is ready.
    pub async fn replica(&self) -> anyhow::Result<RunningReplica> {
        let replica = self.spawn_replica()?;
        replica.wait_ready(READY_TIMEOUT).await?;
        Ok(replica)
    }

    /// Starts a replica of the agent API.
    pub fn spawn_replica(&self) -> anyhow::Result<RunningReplica> {
        // What a replica in a Pod reads from the Pod.
        self.spawn_replica_with(&[("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", self.release.namespace())])
    }

    /// Starts a replica with these variables and waits until it is ready.
    pub async fn replica_with(&self, variables: &[(&str, &str)]) -> anyhow::Result<RunningReplica> {
        let replica = self.spawn_replica_with(variables)?;
        replica.wait_ready(READY_TIMEOUT).await?;
        Ok(replica)
    }

    fn spawn_replica_with(&self, variables: &[(&str, &str)]) -> anyhow::Result<RunningReplica> {
        let program = variables.iter().fold(self.agent_api.clone(), |program, (name, value)| program.env(name, *value));
        let (program, address, health) = program.on_free_ports()?;
        let process = self.spawn(&program, "agent-api", &format!("agent-api-{}", health.replace(':', "-")))?;
        let (url, health_url) = (format!("http://{address}"), format!("http://{health}"));
        Ok(RunningReplica { process, url, health_url, command: program.words() })
    }

    /// Its log is beside those of the environment.
    fn spawn(&self, program: &Program, name: &str, log: &str) -> anyhow::Result<Process> {
        let log = self.env.logs().join(format!("{log}-{}.log", self.database.prefix));
        self.env.spawn(program.spec(name).log(log))
    }

    /// Ends every process of an environment of its own and removes the data. The programs must have been dropped.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.env.stop().await
    }
}
