//! The shared, multi-tenant agent API.
