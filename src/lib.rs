//! agent-tenancy: a Kubernetes operator and a shared, multi-tenant AI-agent API.
//!
//! The map of the house. A room imports only what stands above it here, and of the last column only what is named;
//! `tests/architecture.rs` checks that, and that `async` does not occur in the first four.
//!
//! | room | answers | may import |
//! | --- | --- | --- |
//! | [`api`] | what a user writes and sees: resources, names, conditions, events | – |
//! | [`domain`] | what a valid tenant, agent, keyring and registry entry is; quoting of SQL | `api` |
//! | [`plan`] | what has to change: intent and observation in, steps and verdicts out | `domain`, `api` |
//! | [`status`] | what we tell the user of one pass: conditions and events | `plan`, `domain`, `api` |
//! | [`clock`], [`settings`], [`telemetry`] | time; checked settings; logs, metrics, health | `domain` |
//! | [`effects`] | reads and changes the world: Postgres, Kubernetes, registry, entropy | the rooms above but `status` |
//! | [`controller`] | when to look, how often to retry, who leads | all above |
//! | [`agent_api`] | the shared server: chat, settings, registry follower, acknowledgement | `api`, `domain`, `clock`, `settings`, `telemetry` |
//! | [`kubectl_tenant`] | the kubectl plugin | `api`, `domain`, `plan`, `settings`, `clock` |
//!
//! One Tenant from watch event to Ready: [`controller`]'s worker takes it from the queue, `domain::resolve` turns the
//! spec into a valid value or violations, `effects` observes, [`plan`] decides, `effects` performs step by step,
//! [`status`] projects, and the error's class alone decides when to look again.
//!
//! Each program is a Cargo feature of the same name and compiles only the modules that it needs.
#![cfg_attr(
    not(all(feature = "operator", feature = "agent-api", feature = "kubectl-tenant")),
    allow(dead_code, reason = "a part of the programs does not use all of what they share")
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
#[cfg(any(feature = "operator", feature = "kubectl-tenant"))]
pub mod plan;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "operator")]
pub mod status;
#[cfg(feature = "server")]
pub mod telemetry;
