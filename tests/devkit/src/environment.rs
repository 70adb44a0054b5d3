//! An environment as a whole: started by this process, or attached to.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, api::PostParams};
use tokio::sync::OnceCell;

use crate::{
    CommandOutput, EnvFile, PgVersion, Places, Postgres, Process, Request, Spec, audit, commands,
    control_plane::{self, ApiServer, ControlPlane, namespace_ready},
    crds, credentials,
    supervisor::Supervisor,
    tools, unique,
};

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// etcd, kube-apiserver and kube-controller-manager.
    pub control_plane: bool,
    /// One server for each; `None` is the default version (`$DEVKIT_POSTGRES`, else what the machine has).
    pub postgres: Vec<Option<PgVersion>>,
    /// The API server's port; without it, a free one.
    pub apiserver_port: Option<u16>,
    /// The first Postgres server's port; without it, a free one.
    pub postgres_port: Option<u16>,
    /// Log the requests of ServiceAccounts to the API server; see [`Environment::requests_from`].
    pub audit: bool,
    /// More flags for kube-apiserver.
    pub apiserver_flags: Vec<String>,
}

impl Default for Options {
    /// A control plane and one Postgres server of the default version.
    fn default() -> Self {
        let (apiserver_port, postgres_port) = (None, None);
        Options {
            control_plane: true,
            postgres: vec![None],
            apiserver_port,
            postgres_port,
            audit: false,
            apiserver_flags: Vec::new(),
        }
    }
}

/// A control plane and Postgres servers. One that this process started ends when the last clone is dropped, and with the
/// process.
#[derive(Clone, Debug)]
pub struct Environment {
    file: EnvFile,
    file_path: PathBuf,
    servers: Vec<Postgres>,
    own: Option<Arc<Own>>,
}

/// What only the process that started the environment has. When the supervisor ends, it ends all processes.
#[derive(Debug)]
struct Own {
    control_plane: Option<ControlPlane>,
    supervisor: Arc<Supervisor>,
}

impl Environment {
    /// The environment of this test run: the one that `$DEVKIT_ENV` names (see `devkit run`), else one for this
    /// process, started at the first call. Clients are not shared: each test makes its own for its own runtime.
    pub async fn shared() -> anyhow::Result<&'static Environment> {
        static SHARED: OnceCell<Environment> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async {
                match EnvFile::from_env()? {
                    Some(file) => Ok(Environment::attach(file)),
                    None => Environment::start(Options { audit: true, ..Options::default() }).await,
                }
            })
            .await
    }

    fn attach(file: EnvFile) -> Environment {
        let servers = file.postgres.iter().cloned().map(Postgres::attach).collect();
        let file_path = std::env::var_os("DEVKIT_ENV").map(PathBuf::from).unwrap_or_default();
        Environment { file, file_path, servers, own: None }
    }

    /// Starts a separate environment, for a test that stops, replaces or breaks parts of it.
    pub async fn start(options: Options) -> anyhow::Result<Environment> {
        let tools = if options.control_plane {
            let find = || tools::control_plane(&Places::from_env()?);
            Some(tokio::task::spawn_blocking(find).await??)
        } else {
            None
        };
        let supervisor = tokio::task::spawn_blocking(|| Supervisor::start("env")).await??;
        Environment::start_in(&supervisor, &options, tools).await
    }

    async fn start_in(
        supervisor: &Arc<Supervisor>,
        options: &Options,
        tools: Option<tools::ControlPlaneTools>,
    ) -> anyhow::Result<Environment> {
        let audit = (options.audit && tools.is_some()).then(|| supervisor.logs().join("audit.log"));
        let plane = async {
            match &tools {
                Some(tools) => {
                    let mut flags = options.apiserver_flags.clone();
                    if let Some(log) = &audit {
                        flags.extend(audit::flags(&supervisor.data(), log)?);
                    }
                    ControlPlane::start(supervisor, tools, options.apiserver_port, &flags).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let servers = async {
            let mut servers = Vec::new();
            for (number, version) in options.postgres.iter().enumerate() {
                let port = options.postgres_port.filter(|_| number == 0);
                servers.push(Postgres::start_in(supervisor, *version, port).await?);
            }
            anyhow::Ok(servers)
        };
        let (control_plane, servers) = tokio::try_join!(plane, servers)?;
        let file = EnvFile {
            kubeconfig: control_plane.as_ref().map(|plane| plane.kubeconfig.clone()),
            apiserver: control_plane.as_ref().map(|plane| plane.apiserver.url()),
            audit: audit.clone(),
            logs: supervisor.logs().to_owned(),
            postgres: servers.iter().map(Postgres::entry).collect(),
        };
        let file_path = supervisor.folder().join("env.json");
        file.write(&file_path)?;
        let own = Own { control_plane, supervisor: supervisor.clone() };
        Ok(Environment { file, file_path, servers, own: Some(Arc::new(own)) })
    }

    /// Ends every process and removes the data. An attached environment is left alone.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some(own) = &self.own {
            let supervisor = own.supervisor.clone();
            tokio::task::spawn_blocking(move || supervisor.stop()).await?;
        }
        Ok(())
    }

    /// What another process needs to attach; its path goes into `$DEVKIT_ENV`.
    pub fn file(&self) -> (&EnvFile, &Path) {
        (&self.file, &self.file_path)
    }

    /// The folder of the log files, one for each process.
    pub fn logs(&self) -> &Path {
        &self.file.logs
    }

    /// A new folder that only this user can read. It is removed with the environment, or with this process where the
    /// environment is attached.
    pub fn create_folder(&self, label: &str) -> anyhow::Result<PathBuf> {
        let parent = match &self.own {
            Some(own) => own.supervisor.data(),
            None => Supervisor::of_process()?.data(),
        };
        let folder = parent.join(unique(label));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
        Ok(folder)
    }

    /// Log files outlive this environment.
    pub fn keep_logs(&self) {
        if let Some(own) = &self.own {
            own.supervisor.keep_logs();
        }
    }

    /// A kubeconfig for the cluster's administrator.
    pub fn kubeconfig_path(&self) -> anyhow::Result<&Path> {
        self.file.kubeconfig.as_deref().context("this environment was started without a control plane")
    }

    /// The client configuration of the cluster's administrator.
    pub async fn kube_config(&self) -> anyhow::Result<Config> {
        control_plane::config(self.kubeconfig_path()?).await
    }

    /// A client of the cluster's administrator, for the runtime that calls this.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.kube_config().await?)?)
    }

    /// The API server, to stop and start it; only in an environment that this process started.
    pub fn apiserver(&self) -> anyhow::Result<&ApiServer> {
        self.kubeconfig_path()?;
        let own = self.own.as_ref().and_then(|own| own.control_plane.as_ref());
        Ok(&own
            .context("this API server belongs to the whole test run; start a separate environment to stop it")?
            .apiserver)
    }

    /// Process ids of etcd, the API server and the default Postgres server; only in an environment that this process started.
    pub async fn server_pids(&self) -> anyhow::Result<BTreeMap<&'static str, u32>> {
        let plane = self.own.as_ref().and_then(|own| own.control_plane.as_ref());
        let plane = plane.context("these processes belong to the whole test run; start a separate environment")?;
        let mut pids = BTreeMap::from([("etcd", plane.etcd.pid())]);
        pids.extend(plane.apiserver.pid().await.map(|pid| ("kube-apiserver", pid)));
        pids.extend(self.postgres()?.pid().await?.map(|pid| ("postgres", pid)));
        Ok(pids)
    }

    /// The default Postgres server.
    pub fn postgres(&self) -> anyhow::Result<&Postgres> {
        self.servers.first().context("this environment was started without Postgres")
    }

    /// Its Postgres server of that version.
    pub fn postgres_of(&self, version: PgVersion) -> anyhow::Result<&Postgres> {
        let server = self.servers.iter().find(|server| server.version_major() == version.major());
        server.with_context(|| format!("this environment was started without Postgres {version}"))
    }

    /// Applies the custom resource definitions of the repository, and waits until the API server serves them. Safe to
    /// repeat: several tests may do it at the same time.
    pub async fn apply_crds(&self) -> anyhow::Result<()> {
        crds::apply(&self.client().await?).await
    }

    /// Creates a namespace with a unique name and waits until Pods and tokens can be created in it.
    pub async fn create_namespace(&self, prefix: &str) -> anyhow::Result<String> {
        let name = unique(&format!("test-{prefix}"));
        let client = self.client().await?;
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        namespace_ready(client, &name).await?;
        Ok(name)
    }

    /// A kubeconfig with a fresh token of that ServiceAccount, written to `<dir>/<namespace>-<name>.kubeconfig`.
    ///
    /// Waits for the ServiceAccount, which may not exist yet when a chart was just installed.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str, dir: &Path) -> anyhow::Result<PathBuf> {
        let admin = self.kube_config().await?;
        let client = Client::try_from(admin)?;
        let what = format!("the ServiceAccount {namespace}/{name} gives a token");
        let token = crate::eventually(Duration::from_secs(20), &what, || {
            credentials::service_account_token(client.clone(), namespace, name)
        })
        .await?;
        let path = credentials::service_account_file(dir, namespace, name);
        let (server, ca) = self.server_and_ca()?;
        credentials::write_kubeconfig(&path, &server, &ca, name, &token, namespace)?;
        Ok(path)
    }

    fn server_and_ca(&self) -> anyhow::Result<(String, PathBuf)> {
        let file = kube::config::Kubeconfig::read_from(self.kubeconfig_path()?)?;
        let cluster = file
            .clusters
            .first()
            .and_then(|cluster| cluster.cluster.clone())
            .context("the kubeconfig names no cluster")?;
        let (server, ca) = (cluster.server, cluster.certificate_authority);
        Ok((server.context("the kubeconfig names no server")?, ca.context("the kubeconfig names no CA")?.into()))
    }

    /// Every request, answered by now, of the ServiceAccounts of that namespace; only with [`Options::audit`].
    pub fn requests_from(&self, namespace: &str) -> anyhow::Result<Vec<Request>> {
        let log = self.file.audit.as_deref().context("this environment was started without an audit log")?;
        audit::requests_from(log, namespace)
    }

    /// Starts a program. It ends with an environment that this process started, else with this process.
    pub fn spawn(&self, spec: Spec) -> anyhow::Result<Process> {
        match &self.own {
            Some(own) => Process::spawn_in(&own.supervisor, spec),
            None => Process::spawn(spec),
        }
    }

    /// A `kubectl` command for this cluster, to be run by the caller.
    pub fn kubectl_command(&self) -> anyhow::Result<Command> {
        let tools = tools::control_plane(&Places::from_env()?)?;
        Ok(commands::command(&tools.kubectl, self.kubeconfig_path()?))
    }

    /// A `helm` command for this cluster, to be run by the caller.
    pub fn helm_command(&self) -> anyhow::Result<Command> {
        let tools = tools::control_plane(&Places::from_env()?)?;
        Ok(commands::command(&tools.helm, self.kubeconfig_path()?))
    }

    /// Runs `kubectl` with these arguments.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<CommandOutput> {
        commands::run(self.kubectl_command()?, args, None).await
    }

    /// Runs `kubectl` with these arguments and that standard input: `kubectl_with(&["apply", "-f", "-"], yaml)`.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> anyhow::Result<CommandOutput> {
        commands::run(self.kubectl_command()?, args, Some(input)).await
    }

    /// Runs `helm` with these arguments.
    pub async fn helm(&self, args: &[&str]) -> anyhow::Result<CommandOutput> {
        commands::run(self.helm_command()?, args, None).await
    }
}
