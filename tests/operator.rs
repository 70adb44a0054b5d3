//! The real operator and the real agent API on a real kube-apiserver and Postgres, as the chart's ServiceAccounts: what a
//! tenant costs, that a converged fleet is silent, that nothing is lost or made twice when things break, and that the
//! chart grants exactly what is used.

/// Makes a test of each story for the oldest and for the newest Postgres: a story is an `async fn` that takes the version.
macro_rules! on_each_postgres {
    ($($story:ident),+ $(,)?) => {
        mod on_the_oldest_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() -> anyhow::Result<()> {
                super::$story(devkit::PgVersion::OLDEST).await
            })+
        }
        mod on_the_newest_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() -> anyhow::Result<()> {
                super::$story(devkit::PgVersion::NEWEST).await
            })+
        }
    };
}

#[path = "database/authority.rs"]
mod authority;
#[path = "operator/blocked.rs"]
mod blocked;
#[path = "operator/broken.rs"]
mod broken;
#[path = "operator/chance.rs"]
mod chance;
#[path = "operator/chaos.rs"]
mod chaos;
#[path = "operator/clients.rs"]
mod clients;
#[path = "operator/data.rs"]
mod data;
#[path = "operator/deletions.rs"]
mod deletions;
#[path = "operator/drift.rs"]
mod drift;
#[path = "operator/events.rs"]
mod events;
#[path = "operator/fleet.rs"]
mod fleet;
#[path = "operator/further.rs"]
mod further;
#[path = "operator/instances.rs"]
mod instances;
#[path = "operator/leftovers.rs"]
mod leftovers;
#[path = "operator/load.rs"]
mod load;
#[path = "operator/logins.rs"]
mod logins;
#[path = "operator/looks.rs"]
mod looks;
#[path = "operator/node.rs"]
mod node;
#[path = "operator/planning.rs"]
mod planning;
#[path = "operator/planning_stage.rs"]
mod planning_stage;
#[path = "operator/pods.rs"]
mod pods;
#[path = "operator/rights.rs"]
mod rights;
#[path = "operator/rotation.rs"]
mod rotation;
#[path = "operator/secrecy.rs"]
mod secrecy;
#[path = "operator/storage.rs"]
mod storage;
#[path = "operator/stories.rs"]
mod stories;
#[path = "operator/storm.rs"]
mod storm;
#[path = "operator/suspend.rs"]
mod suspend;
#[path = "operator/takeover.rs"]
mod takeover;
#[path = "operator/tls.rs"]
mod tls;
#[path = "operator/upgrade.rs"]
mod upgrade;
