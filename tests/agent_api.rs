//! The agent API on real Postgres, with tenants provisioned by the operator's own code, and on a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

#[path = "database/setup.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the tests of the database")]
mod setup;

#[path = "database/authority.rs"]
mod authority;
#[path = "database/platform_ids.rs"]
mod platform_ids;

mod agent_api {
    mod in_process;

    mod answers;
    mod chat;
    mod cluster;
    mod directory;
    mod erasing;
    mod faults;
    mod gate;
    mod guard;
    mod ids;
    mod kills;
    mod leaving;
    mod logins;
    mod models;
    mod paid;
    mod pooled;
    mod process;
    mod provider;
    mod settings;
    mod shares;
    mod storage;
    mod tls;
    mod unwritable;
    mod usage;
}
