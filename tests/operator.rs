//! The real operator and the real agent API on a real kube-apiserver and Postgres, as the chart's ServiceAccounts: what a
//! tenant costs, that a converged installation is silent, that faults lose nothing and create nothing twice, and that the
//! chart grants exactly what is used.

/// Makes tests of a scenario on the oldest and on the newest Postgres. A scenario is an `async fn` that takes the version.
macro_rules! on_each_postgres {
    ($($scenario:ident),+ $(,)?) => {
        mod on_the_oldest_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                super::$scenario(devkit::PgVersion::OLDEST).await
            })+
        }
        mod on_the_newest_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                super::$scenario(devkit::PgVersion::NEWEST).await
            })+
        }
    };
}

#[path = "operator/additional_instance.rs"]
mod additional_instance;
#[path = "database/authority.rs"]
mod authority;
#[path = "operator/blocked_deletions.rs"]
mod blocked_deletions;
#[path = "operator/cost.rs"]
mod cost;
#[path = "operator/crashes.rs"]
mod crashes;
#[path = "operator/credentials.rs"]
mod credentials;
#[path = "operator/deletions.rs"]
mod deletions;
#[path = "operator/drift.rs"]
mod drift;
#[path = "operator/dry_run.rs"]
mod dry_run;
#[path = "operator/dry_run_setup.rs"]
mod dry_run_setup;
#[path = "operator/events.rs"]
mod events;
#[path = "operator/export_and_erase.rs"]
mod export_and_erase;
#[path = "operator/fault_injection.rs"]
mod fault_injection;
#[path = "operator/ids.rs"]
mod ids;
#[path = "operator/installation.rs"]
mod installation;
#[path = "operator/installation_state.rs"]
mod installation_state;
#[path = "operator/instances.rs"]
mod instances;
#[path = "operator/key_rotation.rs"]
mod key_rotation;
#[path = "operator/load.rs"]
mod load;
#[path = "operator/login_rotation.rs"]
mod login_rotation;
#[path = "operator/node.rs"]
mod node;
#[path = "operator/orphans.rs"]
mod orphans;
#[path = "operator/outages.rs"]
mod outages;
#[path = "operator/permissions.rs"]
mod permissions;
#[path = "database/platform_ids.rs"]
mod platform_ids;
#[path = "operator/pods.rs"]
mod pods;
#[path = "operator/randomness.rs"]
mod randomness;
#[path = "operator/refused_specs.rs"]
mod refused_specs;
#[path = "operator/revocation.rs"]
mod revocation;
#[path = "operator/secrecy.rs"]
mod secrecy;
#[path = "operator/storage_limit.rs"]
mod storage_limit;
#[path = "operator/storm.rs"]
mod storm;
#[path = "operator/suspend.rs"]
mod suspend;
#[path = "operator/takeover.rs"]
mod takeover;
#[path = "operator/tls.rs"]
mod tls;
#[path = "operator/undecodable.rs"]
mod undecodable;
#[path = "operator/upgrade.rs"]
mod upgrade;
#[path = "operator/users.rs"]
mod users;
