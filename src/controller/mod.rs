//! When an object is reconciled, how often it is retried, and which process leads. No SQL, no YAML.
//!
//! | file | what is there |
//! | --- | --- |
//! | `run` | the composition root: opening ports, leading, draining |
//! | `operator` | the parts of the operator |
//! | `leader` | what a leader runs |
//! | `readiness` | the stage of the process, for /readyz |
//! | `context` | the state that workers, watches and background tasks share |
//! | `failures` | failures of background tasks |
//! | `metrics` | the operator's metrics |
//! | `admin_api/` | dry runs of plans, and takeover grants |
//! | `database/` | the background tasks of each database |
//! | `leadership/` | leader election |
//! | `queue/` | which object is reconciled next, and when |
//! | `reconcile/` | reconciling one object |
//! | `watch/` | watches, and which objects their events enqueue |

pub(crate) mod admin_api;
mod context;
pub(crate) mod database;
mod failures;
mod leader;
pub mod leadership;
mod metrics;
mod operator;
pub(crate) mod queue;
mod readiness;
pub mod reconcile;
pub mod run;
pub(crate) mod watch;
