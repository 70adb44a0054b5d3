//! A control plane without nodes: etcd, kube-apiserver, kube-controller-manager.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Mutex;

use crate::{
    credentials::{signing_key_pems, write_kubeconfig, write_secret},
    ports::{check_port, free_port},
    process::{Process, Spec},
    supervisor::{ShutdownStage, Supervisor},
    tools::ControlPlaneTools,
    wait::eventually,
};

/// Starting takes about four seconds on an idle machine.
const START: Duration = Duration::from_secs(120);

/// Makes aws-lc the one crypto library of this process; without it rustls would refuse to choose.
pub(crate) fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the test has installed a provider already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// The client configuration for a kubeconfig file.
pub(crate) async fn config(kubeconfig: &Path) -> anyhow::Result<Config> {
    install_crypto();
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("{} can't be read", kubeconfig.display()))?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

/// The API server of an environment that this process started; a test may stop it and start it again.
#[derive(Debug)]
pub struct ApiServer {
    spec: Spec,
    supervisor: Arc<Supervisor>,
    kubeconfig: PathBuf,
    port: u16,
    process: Mutex<Option<Process>>,
}

/// The three processes.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    pub(crate) apiserver: ApiServer,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) etcd: Process,
    _controllers: Process,
}

impl ControlPlane {
    /// Starts all three and returns when namespaces get their service accounts, that is when everything works.
    pub(crate) async fn start(
        supervisor: &Arc<Supervisor>,
        tools: &ControlPlaneTools,
        port: Option<u16>,
        extra_flags: &[String],
    ) -> anyhow::Result<ControlPlane> {
        let port = port.map_or_else(free_port, Ok)?;
        check_port(port, "kube-apiserver")?;
        let dir = supervisor.data();
        let (etcd, etcd_url) = start_etcd(supervisor, tools, &dir)?;

        let (key, public_key) = (dir.join("service-account.key"), dir.join("service-account.pub"));
        let (tokens, certs) = (dir.join("tokens.csv"), dir.join("certs"));
        let kubeconfig = supervisor.folder().join("kubeconfig");
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (private, public) = signing_key_pems()?;
        write_secret(&key, &private)?;
        write_secret(&public_key, &public)?;
        write_secret(&tokens, &format!("{token},admin,admin,system:masters\n"))?;
        fs::create_dir_all(&certs)?;
        // The server creates its own certificate there at its first start.
        let ca = certs.join("apiserver.crt");
        write_kubeconfig(&kubeconfig, &format!("https://127.0.0.1:{port}"), &ca, "admin", &token, "default")?;

        let spec = Spec::new("kube-apiserver", &tools.kube_apiserver)
            .stage(ShutdownStage::ControlPlane)
            .arg(format!("--etcd-servers={etcd_url}"))
            .args([format!("--secure-port={port}"), format!("--cert-dir={}", certs.display())])
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--authorization-mode=RBAC"])
            .args(["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24"])
            .arg(format!("--service-account-key-file={}", public_key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .arg(format!("--token-auth-file={}", tokens.display()))
            .args(["--allow-privileged=true", "--profiling=false"])
            .args(extra_flags)
            .log(supervisor.logs().join("kube-apiserver.log"));
        let apiserver = ApiServer {
            spec,
            supervisor: supervisor.clone(),
            kubeconfig: kubeconfig.clone(),
            port,
            process: Mutex::new(None),
        };
        apiserver.start_again().await?;

        let controllers = Spec::new("kube-controller-manager", &tools.kube_controller_manager)
            .stage(ShutdownStage::ControlPlane)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--service-account-private-key-file={}", key.display()))
            .arg(format!("--root-ca-file={}", ca.display()))
            // It serves no requests and needs no election. Many tests delete namespaces at once, which
            // takes hundreds of requests each.
            .args(["--secure-port=0", "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000"])
            .args(["--concurrent-namespace-syncs=20", "--allocate-node-cidrs=false"])
            // There are no nodes; the Pods of a test that acts as a node must not be deleted.
            .arg("--controllers=*,-node-lifecycle-controller,-pod-garbage-collector-controller");
        let controllers = Process::spawn_in(supervisor, controllers)?;
        let client = Client::try_from(config(&kubeconfig).await?)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        let ready = controllers.wait_ready(START, || async { Ok(accounts.get("default").await.map(drop)?) }).await;
        if let Err(error) = ready {
            supervisor.keep_logs();
            return Err(error);
        }
        Ok(ControlPlane { apiserver, kubeconfig, etcd, _controllers: controllers })
    }
}

fn start_etcd(
    supervisor: &Arc<Supervisor>,
    tools: &ControlPlaneTools,
    dir: &Path,
) -> anyhow::Result<(Process, String)> {
    let (client, peer) = (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
    let spec = Spec::new("etcd", &tools.etcd)
        .stage(ShutdownStage::Store)
        .arg(format!("--data-dir={}", dir.join("etcd").display()))
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
        .arg(format!("--initial-cluster=default={peer}"))
        // The data ends with the environment, and a single member may elect itself at once.
        .args(["--unsafe-no-fsync", "--heartbeat-interval=20", "--election-timeout=200", "--log-level=warn"]);
    // The API server waits for it by itself.
    Ok((Process::spawn_in(supervisor, spec)?, client))
}

impl ApiServer {
    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// SIGKILL; open watches break off.
    pub async fn kill(&self) -> anyhow::Result<()> {
        let process = self.process.lock().await.take();
        if let Some(process) = process {
            process.kill_9().await?;
        }
        Ok(())
    }

    /// Starts the stopped server with the same port and data, and waits until it is ready.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        if process.as_ref().is_some_and(|process| process.exit_status().is_none()) {
            return Ok(());
        }
        let started = Process::spawn_in(&self.supervisor, self.spec.clone())?;
        let kubeconfig = &self.kubeconfig;
        let ready = started.wait_ready(START, || async move {
            let client = Client::try_from(config(kubeconfig).await?)?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            Ok(client.request_text(request).await.map(drop)?)
        });
        if let Err(error) = ready.await {
            self.supervisor.keep_logs();
            return Err(error);
        }
        *process = Some(started);
        Ok(())
    }

    /// [`ApiServer::kill`] and [`ApiServer::start_again`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.kill().await?;
        self.start_again().await
    }

    /// SIGSTOP: connections stay open and nothing is answered.
    pub async fn pause(&self) {
        if let Some(process) = &*self.process.lock().await {
            process.pause();
        }
    }

    /// SIGCONT after [`ApiServer::pause`].
    pub async fn resume(&self) {
        if let Some(process) = &*self.process.lock().await {
            process.resume();
        }
    }

    /// Its process id, while it runs.
    pub(crate) async fn pid(&self) -> Option<u32> {
        self.process.lock().await.as_ref().map(Process::pid)
    }

    /// What the server has written since its last start.
    pub async fn log(&self) -> String {
        self.process.lock().await.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// Waits until the namespace has its service account, without which no Pod or token can be created in it.
pub(crate) async fn namespace_ready(client: Client, namespace: &str) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let what = format!("the namespace {namespace} has its ServiceAccount");
    eventually(Duration::from_secs(30), &what, || async { Ok(accounts.get("default").await.map(drop)?) }).await
}
