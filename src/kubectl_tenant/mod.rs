//! `kubectl tenant`: what a platform engineer asks about one Tenant, from a terminal.
//!
//! | file | what is there |
//! | --- | --- |
//! | `agent_api` | speaking to the agent API as the tenant |
//! | `cli` | the command line |
//! | `cluster` | from kubeconfig, context and namespace to a client |
//! | `data` | taking a tenant's data out, erasing one of its users |
//! | `observe` | every read; what may not be read is named, the rest is still shown |
//! | `report` | what was read, as one document (`-o json`, `-o yaml`) |
//! | `tree` | the document as text |
//! | `rotate` | rotating and revoking keys: an annotation, and waiting for what it asks |
//! | `plan`, `plan_text` | what would be done for a Tenant: which ones, and the answer as text |
//! | `admin_api` | the way to the operator, and the token that opens it |
//! | `migrations` | how far the tenants' tables are, and who gets no further |
//! | `suspend` | taking a tenant out of service and bringing it back |
//! | `takeover` | letting a Tenant take over what a lost cluster left |
//! | `token` | a short-lived token from the tenant's own key |
//! | `wait_result` | what `wait` makes of one state of a Tenant |
//! | `wait` | waiting until a Tenant is ready or gone |
//! | `error` | one sentence and one exit code for everything that can go wrong |

mod admin_api;
mod agent_api;
mod cli;
mod cluster;
mod data;
mod error;
mod migrations;
mod observe;
mod plan;
mod plan_text;
mod report;
mod rotate;
mod suspend;
mod takeover;
mod token;
mod tree;
mod wait;
mod wait_result;

#[cfg(test)]
mod samples;

pub use cli::run;
pub use error::PluginError;
