//! agent-tenancy: a Kubernetes operator and a shared, multi-tenant AI-agent API.
pub mod api;
pub mod domain;
pub mod plan;
