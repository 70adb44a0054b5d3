//! From nothing to a running installation: database, chart, operator, two replicas of the agent API.
//!
//! There is no node, so the chart's Deployments are asked for zero Pods; operator and agent API run beside the cluster
//! as the chart's ServiceAccounts and with the chart's settings.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::stage::Stage;
use crate::{Environment, Process, Spec, free_port};

const READY: Duration = Duration::from_secs(60);
/// The release's namespace, and the release.
const NAMESPACE: &str = "agent-tenancy";

/// The processes of the installation; they end when it is dropped.
pub(super) struct Installation {
    operator: Process,
    replicas: [Process; 2],
}

impl Installation {
    /// Returns only when one of the processes ends by itself, and says which.
    pub(super) async fn ended(&self) -> anyhow::Error {
        let [a, b] = &self.replicas;
        let process = tokio::select! {
            _ = self.operator.ended() => &self.operator,
            _ = a.ended() => a,
            _ = b.ended() => b,
        };
        anyhow::anyhow!("{} has ended by itself; see {}", process.name(), process.log_path().display())
    }

    /// The replicas' process ids.
    pub(super) fn replica_pids(&self) -> [u32; 2] {
        let [a, b] = &self.replicas;
        [a.pid(), b.pid()]
    }

    /// That both replicas are still the processes that were started.
    pub(super) fn check_replicas(&self) -> anyhow::Result<()> {
        for replica in &self.replicas {
            if let Some(status) = replica.exit_status() {
                anyhow::bail!("{} has ended ({status}); see {}", replica.name(), replica.log_path().display());
            }
        }
        Ok(())
    }
}

/// Does everything up to two Ready replicas.
pub(super) async fn install(env: &Environment, stage: &mut Stage) -> anyhow::Result<Installation> {
    stage.open("A database, prepared by its administrator");
    let database = env.postgres()?.create_database("agents").await?;
    stage.set("PG", database.superuser_url());
    stage.set("OPERATOR_PASSWORD", crate::unique("operator"));
    stage
        .run(
            "psql \"$PG\" -q -v ON_ERROR_STOP=1 -c \"SET agent_tenancy.operator_password = '$OPERATOR_PASSWORD'\" \
             -f config/sql/bootstrap.sql",
        )
        .await?;

    stage.open("The chart, installed by Helm");
    stage.run(&format!("kubectl create namespace {NAMESPACE}")).await?;
    stage
        .run(&format!(
            "kubectl -n {NAMESPACE} create secret generic operator-database \
             --from-literal=password=\"$OPERATOR_PASSWORD\""
        ))
        .await?;
    let values = [
        format!("database.host={},database.port={}", database.host, database.port),
        format!("database.database={},database.sslMode=disable", database.name),
        "database.passwordSecret.name=operator-database".to_owned(),
        // No node: nothing runs as a Pod, and a replica is whoever acknowledges.
        "operator.replicas=0,agentApi.replicas=0".to_owned(),
        "operator.config.agentApi.replicaSource=Leases".to_owned(),
    ];
    let sets: Vec<String> = values.iter().map(|value| format!("--set {value}")).collect();
    let install = format!(
        "helm install agent-tenancy charts/agent-tenancy -n {NAMESPACE} --hide-notes \\\n    {}",
        sets.join(" \\\n    ")
    );
    stage.run(&install).await?;

    stage.open("Operator and two replicas of the agent API, as the chart's ServiceAccounts with the chart's settings");
    let operator = operator(env, stage).await?;
    let (a, a_url) = replica(env, stage, "a").await?;
    let (b, b_url) = replica(env, stage, "b").await?;
    stage.set("A", a_url);
    stage.set("B", b_url);
    Ok(Installation { operator, replicas: [a, b] })
}

async fn operator(env: &Environment, stage: &Stage) -> anyhow::Result<Process> {
    let config = settings(stage, "agent-tenancy-operator", "operator.yaml").await?;
    let password = stage.dir().join("operator-password");
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&password)?;
    file.write_all(stage.get("OPERATOR_PASSWORD").as_bytes())?;
    let address = format!("127.0.0.1:{}", free_port()?);
    // What differs from a Pod: its files and its ports.
    let variables = vec![
        ("AGENT_TENANCY__DATABASE__PASSWORD_FILE", password.display().to_string()),
        ("AGENT_TENANCY__HTTP_ADDRESS", address.clone()),
    ];
    let account = env.service_account_kubeconfig(NAMESPACE, "agent-tenancy-operator", stage.dir()).await?;
    let program = Program { name: "tenant-operator", log: "tenant-operator".to_owned(), account, config, variables };
    program.start(env, stage, &address).await
}

async fn replica(env: &Environment, stage: &Stage, letter: &str) -> anyhow::Result<(Process, String)> {
    let config = settings(stage, "agent-tenancy-agent-api", "agent-api.yaml").await?;
    let (listen, health) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
    let variables = vec![
        ("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", NAMESPACE.to_owned()),
        ("AGENT_TENANCY__HTTP__LISTEN", listen.clone()),
        ("AGENT_TENANCY__HEALTH__LISTEN", health.clone()),
    ];
    let account = env.service_account_kubeconfig(NAMESPACE, "agent-tenancy-agent-api", stage.dir()).await?;
    let program = Program { name: "agent-api", log: format!("agent-api-{letter}"), account, config, variables };
    Ok((program.start(env, stage, &health).await?, format!("http://{listen}")))
}

/// One of our programs with what it needs instead of a Pod.
struct Program {
    name: &'static str,
    log: String,
    /// Kubeconfig of its ServiceAccount.
    account: PathBuf,
    config: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Program {
    /// Shows the command, starts it, waits until it is ready.
    async fn start(self, env: &Environment, stage: &Stage, health: &str) -> anyhow::Result<Process> {
        let Program { name, log, account, config, variables } = self;
        let path = |path: &Path| path.display().to_string();
        let mut spec = Spec::new(log, stage.program(name)).arg("--config").arg(&config).env("KUBECONFIG", &account);
        let mut words = vec![format!("KUBECONFIG={}", path(&account))];
        for (variable, value) in &variables {
            spec = spec.env(variable, value);
            words.push(format!("{variable}={value}"));
        }
        words.push(format!("{name} --config {}", path(&config)));
        stage.say(&format!("$ {} &", words.join(" \\\n    ")));
        let process = env.spawn(spec)?;
        process.wait_http(&format!("http://{health}/readyz"), READY).await?;
        stage.say(&format!("  → process {} is ready", process.pid()));
        Ok(process)
    }
}

/// The settings that the chart rendered for one program.
async fn settings(stage: &Stage, config_map: &str, key: &str) -> anyhow::Result<PathBuf> {
    let path = stage.dir().join(key);
    if !path.exists() {
        let pointer = key.replace('.', "\\.");
        let command = format!("kubectl -n {NAMESPACE} get configmap {config_map} -o jsonpath='{{.data.{pointer}}}'");
        let (code, text, errors) = stage.quietly(&command).await?;
        anyhow::ensure!(code == 0 && !text.is_empty(), "the chart rendered no {key}: {}", errors.trim());
        std::fs::write(&path, text)?;
    }
    Ok(path)
}
