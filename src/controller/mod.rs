//! When to look, how often to retry, who leads. No SQL, no YAML.

pub mod agent_pass;
mod archives;
mod broken;
mod context;
mod drift;
mod heartbeat;
pub mod identity;
mod instance;
mod leader;
pub mod leftovers;
mod logins;
mod own_files;
pub mod pass;
mod plan_door;
mod posted;
pub mod queue;
mod rehearse;
mod retry;
mod rollout;
pub mod run;
mod scheduler;
mod telemetry;
pub mod tenant_pass;
mod waiters;
mod wake;
mod watches;
mod worker;
