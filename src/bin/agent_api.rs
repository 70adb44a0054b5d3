//! The agent API: `agent-api --config FILE [--print-config]`.

use agent_tenancy::{
    agent_api::serve::{ProcessEnvironment, run},
    clock::Clock,
    settings::{self, agent_api::AgentApiSettings},
    telemetry::{Chain, start_log},
};
use clap::Parser;
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The shared, multi-tenant agent API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// File with settings; without it the defaults hold.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Prints the effective settings and ends.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent-api: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings: AgentApiSettings = settings::load(arguments.config.as_deref(), std::env::vars())?;
    if arguments.print_config {
        print!("{}", settings::render(&settings)?);
        return Ok(());
    }
    start_log(&settings.log)?;
    // Once per process; a second call would only say that it is there already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopped.cancel();
        });
        run(settings, ProcessEnvironment::read(|name| std::env::var(name).ok()), Clock::system(), stop).await?;
        Ok(())
    })
}
