//! `tenant-operator`: reconciles Tenants and AgentConfigs.

use agent_tenancy::{
    controller::{
        leadership::identity::{Identity, PodIdentity},
        run::{ProcessIdentity, run},
    },
    effects::kubernetes::client::connect,
    settings::{self, operator::OperatorSettings},
    telemetry::{self, metrics::Metrics},
};
use anyhow::Context;
use clap::Parser;
use std::path::PathBuf;

/// Reconciles Tenants and AgentConfigs: Postgres schemas, signing keys and the tenant registry of the agent API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (YAML). Variables AGENT_TENANCY__SECTION__KEY override it.
    #[arg(long, env = "AGENT_TENANCY_CONFIG")]
    config: Option<PathBuf>,
    /// Prints the effective settings, without secrets, and ends.
    #[arg(long)]
    print_config: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings: OperatorSettings = settings::load(arguments.config.as_deref(), std::env::vars())?;
    if arguments.print_config {
        print!("{}", settings::render(&settings)?);
        return Ok(());
    }
    telemetry::start_log(&settings.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(settings))
}

async fn serve(settings: OperatorSettings) -> anyhow::Result<()> {
    // An installed provider is refused, and is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = Metrics::new("tenant_operator");
    let config =
        kube::Config::infer().await.context("no way to the API server: neither in a cluster nor a kubeconfig")?;
    let client =
        connect(config, settings.idle_timeout(), &metrics).context("the client of the API server can't be made")?;
    let pod = PodIdentity::from_env();
    let leader = Identity::resolve(&pod, settings.leader_election.identity_file.as_deref())?;
    let identity = ProcessIdentity { leader, pod };
    run(settings, client, identity, metrics, agent_tenancy::telemetry::signals::stop()).await?;
    Ok(())
}
