//! Reconciling one object.
//!
//! | file | what is there |
//! | --- | --- |
//! | `agent_config` | the reconcile of an AgentConfig |
//! | `orphans` | entries and data of objects that were deleted without the operator |
//! | `outcome` | performing steps, and the outcome of a reconcile |
//! | `reconciled` | the reconcile that Tenants and AgentConfigs share |
//! | `tenant` | the reconcile of a Tenant |
//! | `undecodable` | objects that don't decode as their type |
//! | `worker` | a worker, which reconciles one object at a time |

pub mod agent_config;
pub mod orphans;
pub mod outcome;
pub mod reconciled;
pub mod tenant;
pub(crate) mod undecodable;
pub(crate) mod worker;
