//! Reconciling one object.
//!
//! | file | what is there |
//! | --- | --- |
//! | `agent_config` | One pass of an AgentConfig |
//! | `orphans` | What is left of objects that vanished without us (somebody took the finalizer off, or an older etcd came back) |
//! | `outcome` | What every pass has in common |
//! | `tenant` | One pass of a Tenant |
//! | `undecodable` | Objects that don't decode as their own type |
//! | `worker` | A worker |

pub mod agent_config;
pub mod orphans;
pub mod outcome;
pub mod tenant;
pub(crate) mod undecodable;
pub(crate) mod worker;
