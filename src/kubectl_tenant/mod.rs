//! `kubectl tenant`: status, keys, data and plans of Tenants, from a terminal.
//!
//! | file | what is there |
//! | --- | --- |
//! | `cli` | parsing the command line, printing the answer, exit codes |
//! | `verbs` | one file per verb: its arguments and what it does |
//! | `wait` | waiting for a state of a Tenant |
//! | `clients` | the clients of the agent API and of the operator's admin API, and their tokens |
//! | `observe` | every read from the API server |
//! | `report` | what was read about one Tenant, as a document and as a tree |
//! | `cluster` | from kubeconfig, context and namespace to a client of the API server |
//! | `proxy` | the proxy on the way to the API server |
//! | `yaml` | manifests as kubectl reads them |
//! | `duration` | durations on the command line |
//! | `error` | one sentence and one exit code for everything that can go wrong |

mod cli;
mod clients;
mod cluster;
mod duration;
mod error;
mod observe;
mod proxy;
mod report;
mod verbs;
mod wait;
mod yaml;

#[cfg(test)]
mod samples;

pub use cli::run;
