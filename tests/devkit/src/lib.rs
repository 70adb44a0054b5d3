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
//! Map of the house:
//!
//! | file | what is there |
//! | --- | --- |
//! | `environment`, `env_file` | [`Environment`]: started, or attached to through `$DEVKIT_ENV` |
//! | `control_plane`, `credentials` | etcd, kube-apiserver, kube-controller-manager; keys, tokens, kubeconfig files |
//! | `audit` | [`Request`]: what ServiceAccounts asked the API server for |
//! | `postgres` | [`Postgres`] servers, clusters, [`TestDatabase`] |
//! | `pgbouncer` | [`PgBouncer`] in front of a server |
//! | `process`, `supervisor` | [`Process`]; whoever starts one can die in any way and nothing is left behind |
//! | `release` | [`Release`]: the chart's rights, accounts and settings for programs beside the cluster |
//! | `demo` | what `devkit demo` shows |
//! | `bench` | what `devkit bench` measures |
//! | `proxy` | [`Proxy`]: the API server as a program sees it on a bad day; [`Chaos`]: bad days by seed |
//! | [`tools`] | finding, fetching and building the programs: a crate of its own |
//! | `commands`, `names`, `ports`, `wait` | kubectl and helm; small helpers |

mod audit;
pub mod bench;
mod commands;
mod control_plane;
mod credentials;
pub mod demo;
mod env_file;
mod environment;
mod names;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod proxy;
mod release;
mod supervisor;
mod wait;

pub use audit::Request;
pub use commands::Output;
pub use control_plane::ApiServer;
pub use devkit_tools::{self as tools, PgVersion, Places};
pub use env_file::{EnvFile, PostgresEntry};
pub use environment::{Environment, Options};
pub use names::{test_namespace, unique};
pub use pgbouncer::PgBouncer;
pub use ports::{check_port, free_port};
pub use postgres::{Postgres, TestDatabase};
pub use process::{Process, Spec};
pub use proxy::{Asked, Chaos, Fault, Proxy, WatchFault};
pub use release::{Component, Program, Release};
pub use supervisor::Stage;
pub use wait::eventually;
