//! `kubectl tenant` against a real API server. The operator is played by these tests: they write the status, the
//! Secret and the replicas' Leases by hand, so that each state can be had at will.

mod plugin {
    mod commands;
    mod fake_operator;
}
