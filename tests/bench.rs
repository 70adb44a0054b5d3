//! `make bench` in small, so that it can't rot: every row is there, what is counted is right, and no time is judged.

use devkit::bench::{
    Programs, Report,
    operator::{self, Sizes},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_half_measures_everything() -> anyhow::Result<()> {
    let programs = Programs {
        operator: env!("CARGO_BIN_EXE_tenant-operator").into(),
        agent_api: env!("CARGO_BIN_EXE_agent-api").into(),
    };
    let sizes = Sizes { tenants: 20, few: 5, many: 15, together: true };
    let measures = operator::measure(&programs, sizes).await?;
    let value = |name: &str| {
        let found = measures.iter().find(|measure| measure.name == name);
        found.unwrap_or_else(|| panic!("no row {name} in\n{}", Report { measures: measures.clone() }.render())).value
    };
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
        "operator.cost_at_few",
        "operator.cost_at_many",
        "operator.cost_growth",
        "operator.peak_memory_at_many",
    ] {
        assert!(value(name) > 0.0, "{name} is {}", value(name));
    }
    assert_eq!(value("operator.tenants"), 20.0);
    // The cell is made once: one entry, and a few messages to the database.
    assert!((6.0..=6.1).contains(&value("operator.api_writes")), "{}", value("operator.api_writes"));
    assert!((2.0..=2.1).contains(&value("operator.api_reads")), "{}", value("operator.api_reads"));
    assert!((3.0..=3.3).contains(&value("operator.sql_round_trips")), "{}", value("operator.sql_round_trips"));
    Ok(())
}
