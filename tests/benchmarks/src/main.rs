//! `make bench`: measures the release build, prints a table and writes target/bench/report.json.

use std::{path::PathBuf, process::ExitCode};

use benchmarks::{Part, Plan, operator::Sizes, serving};
use clap::{Parser, ValueEnum};
use devkit::ProgramFiles;
use tokio::signal::unix::{SignalKind, signal};

/// Measure the release build: counted and timed runs, a table and target/bench/report.json.
#[derive(Parser)]
#[command(name = "benchmarks")]
struct Arguments {
    /// Only one part.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Tenants of the operator's main run, and of the floor beside it.
    #[arg(long, default_value_t = 1000)]
    tenants: usize,
    /// Tenants of the wave into an empty installation; its cost is compared.
    #[arg(long, default_value_t = 500)]
    few: usize,
    /// Tenants that are there at the end of the last wave, which is of the same size.
    #[arg(long, default_value_t = 5000)]
    many: usize,
    /// Edits of an AgentConfig that are timed under load.
    #[arg(long, default_value_t = 200)]
    edits: u64,
    /// Where the report goes.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Operator,
    Serving,
}

impl From<&Arguments> for Plan {
    fn from(arguments: &Arguments) -> Plan {
        let parts = match arguments.only {
            None => vec![Part::Operator, Part::Serving],
            Some(Only::Operator) => vec![Part::Operator],
            Some(Only::Serving) => vec![Part::Serving],
        };
        let Arguments { tenants, few, many, .. } = *arguments;
        let serving = serving::Sizes { edits: arguments.edits, ..serving::Sizes::default() };
        Plan { parts, operator: Sizes { tenants, few, many, drift_checks: 5, together: false }, serving }
    }
}

/// Ends with 1 if an aim is missed; the report is written all the same.
async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (programs, plan) = (ProgramFiles::beside_this_program()?, Plan::from(arguments));
    let report = tokio::select! {
        report = benchmarks::run(&programs, &plan, &arguments.report) => report?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    let failed: Vec<_> = report.failed().into_iter().map(|measure| measure.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("benchmarks: {} of the aims were missed: {}", failed.len(), failed.join(", "));
    Ok(ExitCode::FAILURE)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("benchmarks: {error:#}");
            ExitCode::from(2)
        }
    }
}
