//! The command line: one file for each verb that is more than a few lines.

mod demo;
mod run;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use devkit::{Environment, Options, PgVersion, Places, PostgresEntry, tools};
use tokio::signal::unix::{SignalKind, signal};

/// Local environments for agent-tenancy: a real control plane and Postgres, without containers.
#[derive(Parser)]
#[command(name = "devkit")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring an environment up, run a command in it, take it down; ends with the command's exit code.
    Run {
        #[command(flatten)]
        what: What,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Bring an environment up, print how to use it, and keep it until Ctrl-C.
    Up {
        #[command(flatten)]
        what: What,
    },
    /// Show an installation at work: chart, operator, agent API, tenants, chat. With a terminal it stays up until Ctrl-C.
    Demo,
    /// Build the programs of the control plane that are neither given nor cached.
    Build,
}

#[derive(clap::Args)]
struct What {
    /// Major versions of the Postgres servers, the default one first; without it, one server ($DEVKIT_POSTGRES, else what the machine has).
    #[arg(long, value_delimiter = ',', value_name = "MAJOR")]
    postgres: Vec<PgVersion>,
    /// Only Postgres.
    #[arg(long)]
    no_control_plane: bool,
    /// The API server's port; a free one if not given.
    #[arg(long, value_name = "PORT")]
    apiserver_port: Option<u16>,
    /// The first Postgres server's port; a free one if not given.
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
}

impl From<What> for Options {
    fn from(what: What) -> Options {
        let What { postgres, no_control_plane, apiserver_port, postgres_port } = what;
        let postgres = if postgres.is_empty() { vec![None] } else { postgres.into_iter().map(Some).collect() };
        Options { control_plane: !no_control_plane, postgres, apiserver_port, postgres_port, ..Options::default() }
    }
}

/// Does what the command line says.
pub(crate) async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        // Tests read which requests were made to the API server.
        Verb::Run { what, command } => run::run(Options { audit: true, ..what.into() }, &command).await,
        Verb::Up { what } => up(what.into()).await,
        Verb::Demo => demo::run(Options::default()).await,
        Verb::Build => {
            tokio::task::spawn_blocking(|| tools::control_plane(&Places::from_env()?)).await??;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn up(options: Options) -> anyhow::Result<ExitCode> {
    // Before the start: Ctrl-C while it starts must end it as well.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let env = tokio::select! {
        env = Environment::start(options) => env?,
        _ = interrupt.recv() => leave(130),
        _ = terminate.recv() => leave(143),
    };
    let (file, path) = env.file();
    let mut lines = vec![format!("export DEVKIT_ENV={}", path.display())];
    lines.extend(file.kubeconfig.iter().map(|kubeconfig| format!("export KUBECONFIG={}", kubeconfig.display())));
    lines.extend(file.postgres.iter().map(|PostgresEntry { major, host, port, password }| {
        format!("# Postgres {major}: postgres://postgres:{password}@{host}:{port}/postgres")
    }));
    lines.push(format!("# logs: {}", file.logs.display()));
    lines.push("# up; Ctrl-C takes it down".to_owned());
    // A reader may close the pipe after the line that it needs.
    let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    env.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// Ends at once, although a thread may be building something: the supervisor takes down what was started.
fn leave(code: i32) -> ! {
    std::process::exit(code)
}
