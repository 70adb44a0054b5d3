//! `devkit bench`: counted and timed runs of the real programs on a real control plane and Postgres.
//!
//! | file | what is there |
//! | --- | --- |
//! | `report` | [`Measure`]s, the table and the JSON file |
//! | `serving` | chat under load, and how soon a change is served |
//! | `site` | a fresh installation by the chart; operator and replicas as processes beside it |
//! | `operator` | the operator's half: from apply to Ready, and what it costs |
//! | `load` | a parallel client and a watch |
//! | `floor`, `sample` | the same writes and SQL by a bare program; taken from what the operator wrote |
//! | `usage` | processor time, memory, counters |
//!
//! Absolute times belong to the machine that the report names. What is asserted are ratios of one run.

mod floor;
mod load;
pub mod operator;
mod report;
mod sample;
pub mod serving;
mod site;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use report::{Measure, Report, percentile};
pub use site::{Operator, Replica, Site};

/// The programs that are measured.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tenant-operator`.
    pub operator: PathBuf,
    /// `agent-api`.
    pub agent_api: PathBuf,
}

impl Programs {
    /// Those that were built together with this program.
    pub fn beside_this() -> anyhow::Result<Programs> {
        let this = std::env::current_exe().context("this program's place is not known")?;
        let place = |name: &str| {
            let path = this.with_file_name(name);
            anyhow::ensure!(
                crate::tools::is_program(&path),
                "there is no {}; build everything at once: cargo build --release --workspace --bins",
                path.display()
            );
            Ok(path)
        };
        Ok(Programs { operator: place("tenant-operator")?, agent_api: place("agent-api")? })
    }
}

/// What to measure, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The parts.
    pub parts: Vec<Part>,
    /// Of the operator's part.
    pub operator: operator::Sizes,
    /// Of the serving part.
    pub serving: serving::Sizes,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From apply to Ready.
    Operator,
    /// Chat, and how soon a change is served.
    Serving,
}

/// Measures and reports: prints the table and writes `file`. A part that breaks off fails the run; what was measured
/// before is reported all the same.
pub async fn run(programs: &Programs, plan: &Plan, file: &Path) -> anyhow::Result<Report> {
    let mut report = Report::begin();
    let mut broken = Vec::new();
    for part in &plan.parts {
        let measured: anyhow::Result<Vec<Measure>> = match part {
            Part::Operator => operator::measure(programs, plan.operator).await,
            Part::Serving => serving::measure(programs, plan.serving).await,
        };
        match measured.with_context(|| format!("the benchmark of the part {part:?} broke off")) {
            Ok(measures) => report.measures.extend(measures),
            Err(error) => broken.push(error),
        }
    }
    report.write(file)?;
    println!("{}", report.render());
    match broken.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(report),
    }
}
