//! From nothing to a running installation: database, chart, operator, two replicas of the agent API.
//!
//! There is no node, so the chart's Deployments have zero replicas; operator and agent API run beside the cluster
//! as the chart's ServiceAccounts and with the chart's settings.

use std::time::Duration;

use super::terminal::Terminal;
use crate::{
    Environment, InstallationDatabase, Process, ProgramFiles, Release, RunningOperator, RunningReplica,
    TestInstallation, installation::Parts,
};

const READY: Duration = Duration::from_secs(60);
/// The release's namespace, and the release.
const NAMESPACE: &str = "agent-tenancy";
/// Namespace of the Tenants.
pub(super) const TENANTS: &str = "shop";
/// Namespace of the registry.
pub(super) const REGISTRY: &str = "agent-tenancy-registry";

/// The processes of the installation; they end when it is dropped.
pub(super) struct Installation {
    operator: RunningOperator,
    replicas: [RunningReplica; 2],
}

impl Installation {
    fn processes(&self) -> [&Process; 3] {
        let [a, b] = &self.replicas;
        [&self.operator.process, &a.process, &b.process]
    }

    /// Returns only when one of the processes ends by itself; the error names it.
    pub(super) async fn ended(&self) -> anyhow::Error {
        let [operator, a, b] = self.processes();
        let process = tokio::select! {
            _ = operator.ended() => operator,
            _ = a.ended() => a,
            _ = b.ended() => b,
        };
        anyhow::anyhow!("{} has ended by itself; see {}", process.name(), process.log_path().display())
    }

    /// The replicas' process ids.
    pub(super) fn replica_pids(&self) -> [u32; 2] {
        let [_, a, b] = self.processes();
        [a.pid(), b.pid()]
    }

    /// Checks that both replicas are still the processes that were started.
    pub(super) fn check_replicas(&self) -> anyhow::Result<()> {
        for RunningReplica { process, .. } in &self.replicas {
            if let Some(status) = process.exit_status() {
                anyhow::bail!("{} has ended ({status}); see {}", process.name(), process.log_path().display());
            }
        }
        Ok(())
    }
}

/// Does everything up to two Ready replicas.
pub(super) async fn install(env: &Environment, terminal: &mut Terminal) -> anyhow::Result<Installation> {
    terminal.open("A database, prepared by its administrator");
    let database = env.postgres()?.create_database("agents").await?;
    terminal.set("PG", database.superuser_url());
    terminal.set("OPERATOR_PASSWORD", crate::unique("operator"));
    terminal
        .run(
            "psql \"$PG\" -q -v ON_ERROR_STOP=1 -c \"SET agent_tenancy.operator_password = '$OPERATOR_PASSWORD'\" \
             -f config/sql/bootstrap.sql",
        )
        .await?;

    terminal.open("The chart, installed by Helm");
    terminal.run(&format!("kubectl create namespace {NAMESPACE}")).await?;
    terminal
        .run(&format!(
            "kubectl -n {NAMESPACE} create secret generic operator-database \
             --from-literal=password=\"$OPERATOR_PASSWORD\""
        ))
        .await?;
    let values = [
        format!("database.host={},database.port={}", database.host, database.port),
        format!("database.database={},database.sslMode=disable", database.name),
        "database.passwordSecret.name=operator-database".to_owned(),
        // Without nodes no Pods run, so a replica is whatever holds a Lease.
        "operator.replicas=0,agentApi.replicas=0".to_owned(),
        "operator.config.agentApi.replicaSource=Leases".to_owned(),
    ];
    let sets: Vec<String> = values.iter().map(|value| format!("--set {value}")).collect();
    let install = format!(
        "helm install agent-tenancy charts/agent-tenancy -n {NAMESPACE} --hide-notes \\\n    {}",
        sets.join(" \\\n    ")
    );
    terminal.run(&install).await?;

    terminal
        .open("Operator and two replicas of the agent API, as the chart's ServiceAccounts with the chart's settings");
    let parts = Parts {
        release: Release::installed(env, NAMESPACE, NAMESPACE).await?,
        database: InstallationDatabase::existing(database, "at", terminal.get("OPERATOR_PASSWORD")),
        tenants_namespace: TENANTS.to_owned(),
        registry_namespace: REGISTRY.to_owned(),
        folder: terminal.dir().to_owned(),
        has_admin_api: false,
    };
    let programs =
        ProgramFiles { operator: terminal.program("tenant-operator"), agent_api: terminal.program("agent-api") };
    let installation = parts.assemble(env.clone(), &programs).await?;
    let operator = operator(&installation, terminal).await?;
    let replicas = [replica(&installation, terminal).await?, replica(&installation, terminal).await?];
    for (name, replica) in ["A", "B"].into_iter().zip(&replicas) {
        terminal.set(name, replica.url.clone());
    }
    Ok(Installation { operator, replicas })
}

/// Starts the operator and shows how.
async fn operator(installation: &TestInstallation, terminal: &Terminal) -> anyhow::Result<RunningOperator> {
    let operator = installation.spawn_operator("operator-identity")?;
    show(terminal, &operator.command);
    operator.wait_ready(READY).await?;
    terminal.say(&format!("  → process {} is ready", operator.process.pid()));
    Ok(operator)
}

/// Starts a replica and shows how.
async fn replica(installation: &TestInstallation, terminal: &Terminal) -> anyhow::Result<RunningReplica> {
    let replica = installation.spawn_replica()?;
    show(terminal, &replica.command);
    replica.wait_ready(READY).await?;
    terminal.say(&format!("  → process {} is ready", replica.process.pid()));
    Ok(replica)
}

fn show(terminal: &Terminal, command: &[String]) {
    terminal.say(&format!("$ {} &", command.join(" \\\n    ")));
}
