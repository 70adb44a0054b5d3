//! The contract with users: the CRDs as they are generated, committed, and enforced by a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod contract {
    mod bounds;
    mod cases;
    mod generated;
    mod samples;
    mod schema;
    mod server;
    mod support;
    mod walker;
}
