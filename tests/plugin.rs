//! `kubectl tenant` against a real API server. No operator runs: the tests write the status, the Secret and the replicas'
//! Leases, so that each state can be tested.

mod plugin {
    mod commands;
    mod fake_operator;
    mod manifests;
    mod proxies;
}
