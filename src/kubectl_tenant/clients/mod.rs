//! Clients of the agent API and of the operator's admin API, and their tokens.
//!
//! | file | what is there |
//! | --- | --- |
//! | `agent_api` | requests to the agent API as the tenant |
//! | `token` | claims and signature of a tenant's token |
//! | `admin_api` | requests to the operator's admin API: plans and takeovers |

pub(crate) mod admin_api;
pub(crate) mod agent_api;
pub(crate) mod token;
