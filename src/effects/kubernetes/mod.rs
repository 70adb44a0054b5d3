//! Kubernetes: watches with their caches, and every request of the operator.
//!
//! | file | what is there |
//! | --- | --- |
//! | `client` | the client of the API server, which counts requests |
//! | `error` | the timeout of a request, and the error class of a failed one |
//! | `cache`, `watch` | a cache of objects, and the watch that fills it |
//! | `objects` | writes to Tenants and AgentConfigs: finalizer, status, events |
//! | `claims` | the Tenants that claim each tenant id |
//! | `credentials` | the Secrets with providers' credentials |
//! | `keys` | the Secrets with the signing keys |
//! | `registry`, `entries` | the tenant registry, and its Secrets |
//! | `revisions` | the revisions of AgentConfigs, as ControllerRevisions |
//! | `replicas` | the replicas of the agent API, from Leases and Pods |
//! | `instances` | DatabaseInstances and their status |
//! | `lease`, `fence` | the leader Lease, and the check before each write |
//! | `review` | authentication and permissions of a caller of the admin API |

pub mod cache;
pub mod claims;
pub mod client;
pub mod credentials;
pub mod entries;
pub mod error;
pub mod fence;
pub mod instances;
pub mod keys;
pub mod lease;
pub mod objects;
pub mod registry;
pub mod replicas;
pub mod review;
pub mod revisions;
pub mod watch;
