//! The contract with users: the CRDs as they are generated, committed, and enforced by a real API server.

mod contract {
    mod cases;
    mod generated;
    mod samples;
    mod schema;
    mod server;
    mod support;
    mod walker;
}
