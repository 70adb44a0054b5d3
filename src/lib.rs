//! agent-tenancy.
