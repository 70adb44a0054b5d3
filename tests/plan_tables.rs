//! Pure tables: what is observed, what is planned, which conditions follow, and how kubectl, Flux, Helm and Argo CD read
//! them.
//!
//! | file | what it tests |
//! | --- | --- |
//! | `adoption`, `takeover`, `kept_data` | taking over the data of an earlier Tenant, of a lost cluster, of another namespace |
//! | `agents` | plans of AgentConfigs |
//! | `deletions`, `suspensions` | taking a tenant out of service |
//! | `fixtures` | a valid Tenant, and a converged view of its world |
//! | `ids` | tenant ids that earlier replicas can't read |
//! | `invariants` | every combination of what can be observed: no plan does harm |
//! | `keys`, `revocation` | plans of signing keys; revoking keys in an emergency |
//! | `migrations` | plans of migrations |
//! | `status_readers` | how tools read the conditions |
//! | `tenants` | plans of Tenants that should exist |
//! | `without_instance` | Tenants without a database instance |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where something is wrong")]

mod plan_tables {
    mod adoption;
    mod agents;
    mod deletions;
    mod fixtures;
    mod ids;
    mod invariants;
    mod kept_data;
    mod keys;
    mod migrations;
    mod revocation;
    mod status_readers;
    mod suspensions;
    mod takeover;
    mod tenants;
    mod without_instance;
}
