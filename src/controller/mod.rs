//! When to look, how often to retry, who leads. No SQL, no YAML.

pub mod agent_pass;
pub mod pass;
pub mod tenant_pass;
