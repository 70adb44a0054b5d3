//! agent-tenancy: a Kubernetes operator and a shared, multi-tenant AI-agent API.
pub mod agent_api;
pub mod api;
pub mod clock;
pub mod controller;
pub mod domain;
pub mod effects;
pub mod kubectl_tenant;
pub mod plan;
pub mod settings;
pub mod status;
pub mod telemetry;
