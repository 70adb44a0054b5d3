//! Benchmarks: counted and timed runs of the real programs on a real control plane and Postgres (`make bench`).
//!
//! | file | what is there |
//! | --- | --- |
//! | `report` | [`Measure`]s, the table and the JSON file |
//! | `operator` | the operator's part: from apply to Ready, and what it costs |
//! | `load` | a parallel client and a watch |
//! | `floor`, `sample` | the same writes and SQL by a bare program; taken from what the operator wrote |
//! | `serving` | chat under load, and how soon a change is served |
//! | `installation` | installations in control planes of their own |
//! | `usage` | processor time, memory, requests |
//!
//! Absolute times belong to the machine that the report names. Only counts and ratios of one run are asserted.

mod floor;
mod installation;
mod load;
pub mod operator;
mod report;
mod sample;
pub mod serving;
mod usage;

use std::path::Path;

use anyhow::Context as _;
use devkit::ProgramFiles;

pub use report::{Measure, Report, percentile};

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

/// Measures and reports: prints the table and writes `file`. A part that fails also fails the run; what was measured
/// before is reported all the same.
pub async fn run(programs: &ProgramFiles, plan: &Plan, file: &Path) -> anyhow::Result<Report> {
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
