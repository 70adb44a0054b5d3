//! Local environments for the demo, the tests and the benchmarks: a real control plane (etcd, kube-apiserver,
//! kube-controller-manager) and real Postgres servers, on ports and in folders of their own.
//!
//! A test attaches to the environment of its test run, or starts one for its process:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! let env = devkit::Environment::shared().await?;
//! let namespace = env.create_namespace("chat").await?;
//! let database = env.postgres()?.create_database(&devkit::unique("chat")).await?;
//! # let _ = (namespace, database.superuser_url()); Ok(())
//! # }
//! ```
//!
//! | variable | meaning |
//! | --- | --- |
//! | `DEVKIT_ENV` | the file of the environment to attach to; set by `devkit run` |
//! | `DEVKIT_POSTGRES` | major version of Postgres where a test doesn't ask for one |
//! | `DEVKIT_POSTGRES_BIN` | folder with `postgres` and `initdb` to use |
//! | `DEVKIT_KEEP_LOGS` | if set, log files outlive their environment |
//! | `KUBEBUILDER_ASSETS` | folder with etcd, kube-apiserver and others, asked first |
//! | `AGENT_TENANCY_CACHE` | where built and fetched programs are kept |
//!
//! | file | what is there |
//! | --- | --- |
//! | `environment`, `env_file` | [`Environment`]: started, or attached to through `$DEVKIT_ENV` |
//! | `control_plane`, `credentials`, `crds` | etcd, kube-apiserver, kube-controller-manager; keys, tokens, kubeconfig files; CRDs |
//! | `audit` | [`Request`]: what ServiceAccounts asked the API server for |
//! | `postgres` | [`Postgres`] servers, clusters, [`TestDatabase`] |
//! | `pgbouncer` | [`PgBouncer`] in front of a server |
//! | `process`, `supervisor` | [`Process`]; all of them end, however the process that started them ends |
//! | `release` | [`Release`]: the chart's permissions, accounts and settings for programs beside the cluster |
//! | `installation` | [`TestInstallation`]: namespaces, database, release and running programs |
//! | `token`, `metrics` | [`TestToken`]: tokens of a tenant's users; what programs count |
//! | `demo` | what `devkit demo` shows |
//! | `proxy` | [`Proxy`]: an API server with faults; [`RandomFaults`]: faults by a seed |
//! | [`tools`] | finding, fetching and building the programs: a crate of its own |
//! | `commands`, `names`, `ports`, `wait` | running commands; small helpers |

mod audit;
mod commands;
mod control_plane;
mod crds;
mod credentials;
pub mod demo;
mod env_file;
mod environment;
mod installation;
mod metrics;
mod names;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod proxy;
mod release;
mod supervisor;
mod token;
mod wait;

pub use audit::Request;
pub use commands::{CommandOutput, run as run_command};
pub use control_plane::ApiServer;
pub use devkit_tools::{self as tools, PgVersion, Places, repository};
pub use env_file::{EnvFile, PostgresEntry};
pub use environment::{Environment, Options};
pub use installation::{
    InstallationBuilder, InstallationDatabase, ProgramFiles, RunningOperator, RunningReplica, TestInstallation,
};
pub use metrics::metrics;
pub use names::unique;
pub use pgbouncer::PgBouncer;
pub use ports::{check_port, free_port};
pub use postgres::{Postgres, TestDatabase};
pub use process::{Process, Spec};
pub use proxy::{ApiRequest, Fault, Proxy, RandomFaults, WatchFault};
pub use release::{Component, Program, Release};
pub use supervisor::ShutdownStage;
pub use token::{SigningKey, TestToken};
pub use wait::eventually;
