//! The Postgres side against real servers, as the operator's login, which is no superuser: oldest and newest version.
// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "operator/randomness.rs"]
mod randomness;

mod database {
    mod setup;

    mod archives;
    mod bootstrap;
    mod cost;
    mod drift;
    mod isolation;
    mod killed;
    mod life;
    mod logins;
    mod migrations;
    mod outage;
    mod own;
    mod pooled;
    mod preflight;
    mod quoting;
    mod races;
    mod settings;
    mod storage;
    mod takeover;
    mod upgrade;
}
