//! `make bench` with small sizes: every row is there, counts are right, and times are not checked.
#![allow(clippy::panic, reason = "a test stops where something is wrong")]

use benchmarks::{
    Measure, Report,
    operator::{self, Sizes},
    serving,
};
use devkit::ProgramFiles;
use std::time::Duration;

fn programs() -> ProgramFiles {
    ProgramFiles {
        operator: env!("CARGO_BIN_EXE_tenant-operator").into(),
        agent_api: env!("CARGO_BIN_EXE_agent-api").into(),
    }
}

/// The value of a row; not a number if there is no such row.
fn value(measures: &[Measure], name: &str) -> f64 {
    measures.iter().find(|measure| measure.name == name).map_or(f64::NAN, |measure| measure.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_part_measures_everything() -> anyhow::Result<()> {
    let sizes = Sizes { tenants: 20, few: 5, many: 15, drift_checks: 1, together: true };
    let measures = operator::measure(&programs(), sizes).await?;
    let table = Report { measures: measures.clone() }.render();
    let value = |name: &str| value(&measures, name);
    for name in [
        "operator.makespan",
        "operator.rate",
        "operator.apply_to_ready.p50",
        "operator.apply_to_ready.p99",
        "operator.first_tenth_ready",
        "operator.fairness",
        "operator.cpu",
        "operator.peak_memory",
        "operator.floor.rate",
        "operator.rate_to_floor",
        "operator.alone.p50",
        "operator.alone.p99",
        "operator.cost_at_few",
        "operator.cost_at_many",
        "operator.cost_growth",
        "operator.peak_memory_at_many",
        "operator.restart",
        "operator.drift_check",
    ] {
        assert!(value(name) > 0.0, "{name} in\n{table}");
    }
    assert_eq!(value("operator.tenants"), 20.0);
    assert_eq!(value("operator.restart.writes"), 0.0, "{table}");
    assert_eq!(value("operator.drift_check.writes"), 0.0, "{table}");
    // On a machine that is busy with other tests, some are reconciled again.
    assert!((6.0..=7.0).contains(&value("operator.api_writes")), "{table}");
    assert!((2.0..=3.0).contains(&value("operator.api_reads")), "{table}");
    // Reads of several tenants at the same time are batched.
    assert!((1.0..=4.0).contains(&value("operator.sql_round_trips")), "{table}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_serving_part_measures_everything_and_no_call_fails() -> anyhow::Result<()> {
    let short = Duration::from_secs(1);
    let measures =
        serving::measure(&programs(), serving::Sizes { trial: short, calm: short, edits: 3, changes: 10 }).await?;
    let table = Report { measures: measures.clone() }.render();
    let value = |name: &str| value(&measures, name);
    for name in [
        "serving.chat.highest_rate",
        "serving.chat.p50",
        "serving.chat.p99",
        "serving.chat.cpu",
        "serving.edit.p50",
        "serving.edit.p99",
        "serving.memory",
    ] {
        assert!(value(name) > 0.0, "{name} in\n{table}");
    }
    for name in ["serving.chat.failed", "serving.edit.failed", "serving.changes.failed"] {
        assert_eq!(value(name), 0.0, "{table}");
    }
    Ok(())
}
