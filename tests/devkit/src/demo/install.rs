//! From nothing to a running installation: database, chart, operator, two replicas of the agent API.
//!
//! There is no node, so the chart's Deployments are asked for zero Pods; operator and agent API run beside the cluster
//! as the chart's ServiceAccounts and with the chart's settings.

use std::time::Duration;

use super::stage::Stage;
use crate::{Component, Environment, Process, Program, Release, credentials::write_secret};

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
    let release = Release::installed(env, NAMESPACE, NAMESPACE).await?;
    let operator = operator(env, &release, stage).await?;
    let (a, a_url) = replica(env, &release, stage, "a").await?;
    let (b, b_url) = replica(env, &release, stage, "b").await?;
    stage.set("A", a_url);
    stage.set("B", b_url);
    Ok(Installation { operator, replicas: [a, b] })
}

async fn operator(env: &Environment, release: &Release, stage: &Stage) -> anyhow::Result<Process> {
    let password = stage.dir().join("operator-password");
    write_secret(&password, stage.get("OPERATOR_PASSWORD"))?;
    let program = release.program(env, Component::Operator, &stage.program("tenant-operator"), stage.dir()).await?;
    let program = program.env("AGENT_TENANCY__DATABASE__PASSWORD_FILE", password);
    let (program, _, health) = program.on_free_ports()?;
    start(env, stage, &program, "tenant-operator", &health).await
}

async fn replica(
    env: &Environment,
    release: &Release,
    stage: &Stage,
    letter: &str,
) -> anyhow::Result<(Process, String)> {
    let program = release.program(env, Component::AgentApi, &stage.program("agent-api"), stage.dir()).await?;
    let program = program.env("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", release.namespace());
    let (program, address, health) = program.on_free_ports()?;
    let process = start(env, stage, &program, &format!("agent-api-{letter}"), &health).await?;
    Ok((process, format!("http://{address}")))
}

/// Shows the command, starts the program, waits until it is ready.
async fn start(
    env: &Environment,
    stage: &Stage,
    program: &Program,
    name: &str,
    health: &str,
) -> anyhow::Result<Process> {
    stage.say(&format!("$ {} &", program.words().join(" \\\n    ")));
    let process = env.spawn(program.spec(name))?;
    process.wait_http(&format!("http://{health}/readyz"), READY).await?;
    stage.say(&format!("  → process {} is ready", process.pid()));
    Ok(process)
}
