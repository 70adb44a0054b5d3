//! agent-tenancy: a Kubernetes operator and a shared, multi-tenant AI-agent API.
//!
//! # Map
//!
//! A module imports only the modules that its row names; `tests/architecture` checks that, and that `async` does not
//! occur in the first four.
//!
//! | module | answers | may import |
//! | --- | --- | --- |
//! | [`api`] | what a user writes and sees: resources, names, conditions, events | – |
//! | [`domain`] | what a valid tenant, agent, keyring and registry entry is; quoting of SQL | `api` |
//! | [`plan`] | what has to change: intent and observation in, steps and part reports out | `domain`, `api` |
//! | [`status`] | what we tell the user after one reconcile: conditions and events | `plan`, `domain`, `api` |
//! | [`clock`], [`settings`], [`telemetry`] | time; checked settings; logs, metrics, health | `domain` |
//! | [`effects`] | reads and changes the world: Postgres, Kubernetes, registry, entropy | the modules above but `status` |
//! | [`controller`] | when to reconcile, how often to retry, which process leads | all above |
//! | [`agent_api`] | the shared server: chat, settings, registry follower, acknowledgement | `api`, `domain`, `clock`, `settings`, `telemetry` |
//! | [`kubectl_tenant`] | the kubectl plugin | `api`, `domain`, `clock` |
//!
//! Each folder's `mod.rs` opens with a table of its files.
//!
//! # From watch event to status
//!
//! A worker of [`controller`] takes an object from the queue. `domain::resolve` turns its spec into a valid value or into
//! violations, [`effects`] observes, [`plan`] decides, [`effects`] performs step by step, and [`status`] projects. The class
//! of the error alone decides when the object is reconciled again.
//!
//! # Concepts
//!
//! | word | meaning |
//! | --- | --- |
//! | cell | up to 500 tenants of one database that share an owner role, an access group and the agent API's login |
//! | incarnation | the identity of a tenant's data: a UUID that survives adoption and changes when the data is recreated |
//! | instance | one Postgres database of the operator's settings |
//! | ledger | the table of the control schema with one row per tenant id: the ownership mark of a tenant's objects |
//! | entry | one Secret of the tenant registry: a tenant, an AgentConfig, an upstream credential, or a cell's login |
//! | acknowledgement | a replica's Lease, which says up to which registry version the replica has applied the entries |
//! | keyring | a tenant's signing keys: standby, current, previous |
//! | part | what one condition reports on: the database, the keys, the entry, … |
//! | epoch | the number of the leadership; every database change fails unless its epoch is the latest |
//! | rollout | applying a new migration to the tenants in stages |
//!
//! # Programs
//!
//! Each program is a Cargo feature and compiles only the modules and crates that it needs.
#![warn(unreachable_pub)]
#![cfg_attr(
    not(all(feature = "operator", feature = "agent-api", feature = "kubectl-tenant")),
    allow(dead_code, reason = "one program does not use everything that it shares with the others")
)]
#[cfg(feature = "agent-api")]
pub mod agent_api;
pub mod api;
pub mod clock;
#[cfg(feature = "operator")]
pub mod controller;
pub mod domain;
#[cfg(feature = "operator")]
pub mod effects;
#[cfg(feature = "kubectl-tenant")]
pub mod kubectl_tenant;
#[cfg(feature = "operator")]
pub mod plan;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "operator")]
pub mod status;
#[cfg(feature = "server")]
pub mod telemetry;
