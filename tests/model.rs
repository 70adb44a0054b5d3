//! The model level: the real plans, status and passes over a world in memory. Whatever goes wrong, at whatever effect,
//! the world ends as the specs say, and then rests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod model {
    pub mod agent_world;
    pub mod archives;
    pub mod crash;
    pub mod database;
    pub mod drift;
    pub mod objects;
    pub mod operator;
    pub mod oracle;
    pub mod random;
    pub mod registry;
    pub mod run;
    pub mod scenarios;
    pub mod scenarios_agents;
    pub mod scenarios_archives;
    pub mod scenarios_drift;
    pub mod scenarios_keys;
    pub mod scenarios_migrations;
    pub mod scenarios_suspend;
    pub mod secrets;
    pub mod state;
    pub mod tenant_world;
    pub mod user;
    pub mod user_keys;
}

use model::random::{TRANSITIONS, action, run_history};
use proptest::{
    collection::vec,
    test_runner::{Config, FileFailurePersistence, TestRunner},
};
use std::sync::atomic::Ordering;

/// One test for both, so that the counts are printed together. `MODEL_CASES` sets the number of random histories.
#[test]
fn whatever_goes_wrong_the_world_ends_as_the_specs_say() {
    let points = model::crash::run_matrix();
    let mut runner = TestRunner::new(Config {
        cases: std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(320),
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        source_file: Some(file!()),
        ..Config::default()
    });
    let result = runner.run(&vec(action(), 20..60), |actions| {
        run_history(&actions);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let transitions = TRANSITIONS.load(Ordering::Relaxed);
    let line = format!("model: {points} crash points, {transitions} transitions\n");
    print!("{line}");
    // The harness keeps stdout of a test that passes to itself.
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    assert!(transitions >= 10_000);
}
