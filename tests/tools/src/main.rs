//! `devkit-tools`: finds, fetches and builds programs before anything else is built.

use std::{ffi::OsStr, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use devkit_tools::{
    ControlPlaneTools, PgVersion, Places, Wanted, control_plane, fetch, output_of, pgbouncer, postgres,
};

/// The programs that agent-tenancy's demo, tests and benchmarks run against.
#[derive(Parser)]
#[command(name = "devkit-tools")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or fetch everything that isn't built here, or report what is missing.
    Fetch(Arguments),
    /// Build the programs of the control plane that are neither given nor cached.
    Build,
    /// Find, fetch and build everything, then print versions and paths.
    List(Arguments),
}

#[derive(clap::Args)]
struct Arguments {
    /// Major versions of Postgres; without it, the default one ($DEVKIT_POSTGRES, else what the machine has).
    #[arg(long, value_delimiter = ',', value_name = "MAJOR")]
    postgres: Vec<PgVersion>,
    /// Also pgbouncer.
    #[arg(long)]
    pgbouncer: bool,
}

impl From<Arguments> for Wanted {
    fn from(arguments: Arguments) -> Wanted {
        let Arguments { postgres, pgbouncer } = arguments;
        let postgres = if postgres.is_empty() { vec![None] } else { postgres.into_iter().map(Some).collect() };
        Wanted { postgres, pgbouncer }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("devkit: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let places = Places::from_env()?;
    match verb {
        Verb::Fetch(arguments) => fetch(&places, &arguments.into()),
        Verb::Build => control_plane(&places).map(drop),
        Verb::List(arguments) => list(&places, &arguments.into()),
    }
}

fn list(places: &Places, wanted: &Wanted) -> anyhow::Result<()> {
    fetch(places, wanted)?;
    let ControlPlaneTools { etcd, kube_apiserver, kube_controller_manager, kubectl, helm } = control_plane(places)?;
    for program in [etcd, kube_apiserver, kube_controller_manager] {
        print(&program, &["--version"])?;
    }
    print(&kubectl, &["version", "--client"])?;
    print(&helm, &["version", "--short"])?;
    for version in &wanted.postgres {
        print(&postgres(places, *version)?.bin.join("postgres"), &["--version"])?;
    }
    if wanted.pgbouncer {
        print(&pgbouncer(places)?, &["--version"])?;
    }
    Ok(())
}

fn print(program: &Path, args: &[&str]) -> anyhow::Result<()> {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let text = output_of(program, &args)?;
    println!("{:<48} {}", text.lines().next().unwrap_or("?"), program.display());
    Ok(())
}
