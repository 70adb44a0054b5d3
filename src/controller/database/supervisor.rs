//! Watching over one database: looks at it before anything is made in it, raises our epoch there, opens the gate, and
//! probes while it is out. One probe for everybody.

use crate::controller::leadership::election::EpochRequest;
use crate::{
    api::Tenant,
    domain::{
        class::ErrorClass,
        ident::{DatabaseId, Epoch},
    },
    effects::{
        database::{
            breaker::{BreakerState, CircuitBreaker},
            instances::Instances,
        },
        error::EffectError,
        kubernetes::{cache::Cache, fence::LeaseFence, objects::Watched, registry::Registry},
    },
    plan::{
        instance::preflight::{InstancePlan, plan_instance},
        observed::ReadError,
    },
};
use std::{collections::BTreeSet, time::Duration};

/// How often an unfit or changed database is looked at again: a person has to act.
const SLOW: Duration = Duration::from_secs(15);
/// Longest pause between probes of a database that does not answer.
const LONGEST: Duration = Duration::from_secs(10);
/// How often the cells are counted anew.
const RECOUNT: Duration = Duration::from_secs(300);

/// What the watch over the database needs.
pub struct Supervisor {
    /// The way to the database.
    pub breaker: CircuitBreaker,
    /// All databases.
    pub instances: Instances,
    /// The registry, whose cell entries know which database it was.
    pub registry: Registry,
    /// The Tenants, whose status knows it too.
    pub tenants: Cache<Watched<Tenant>>,
    /// Leadership.
    pub fence: LeaseFence,
    /// For raising the epoch.
    pub epochs: EpochRequest,
    /// Which cluster this is.
    pub cluster_id: String,
}

impl Supervisor {
    /// Runs until the process ends.
    pub async fn run(self) {
        let mut pause = Duration::from_secs(1);
        let mut told = String::new();
        let mut tell = |line: String, good: bool| {
            if line != told {
                let instance = self.breaker.name();
                match good {
                    true => tracing::info!(instance, "{line}"),
                    false => tracing::warn!(instance, "{line}"),
                }
                told = line;
            }
        };
        loop {
            match self.look().await {
                Ok(BreakerState::Open(id)) => {
                    tell(format!("database {id} is in use"), true);
                    self.breaker.set(BreakerState::Open(id));
                    pause = Duration::from_secs(1);
                    self.stay_open().await;
                    continue;
                }
                Ok(BreakerState::Changed { expected, found }) => {
                    let found_text = found.map_or("none".to_owned(), |id| id.to_string());
                    tell(
                        format!(
                            "another database answered: expected {expected}, found {found_text}; nothing is made in it"
                        ),
                        false,
                    );
                    self.breaker.set(BreakerState::Changed { expected, found });
                    pause = SLOW;
                }
                Ok(BreakerState::Closed(read_error)) => {
                    tell(format!("the database is not fit for use: {}", read_error.note), false);
                    self.breaker.set(BreakerState::Closed(read_error));
                    pause = SLOW;
                }
                Err(error) => {
                    tell(format!("the database can't be used: {}", error.chain()), false);
                    self.breaker.set(BreakerState::Closed(ReadError { class: error.class, note: error.chain() }));
                    pause = (pause * 2).min(LONGEST);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns when somebody has met an outage.
    async fn stay_open(&self) {
        let mut state = self.breaker.follow();
        loop {
            let closed = async { state.wait_for(|state| !state.is_open()).await.map(|_| ()) };
            tokio::select! {
                _ = closed => return,
                () = tokio::time::sleep(RECOUNT) => {
                    if let Err(error) = self.breaker.database.observe_cells().await {
                        tracing::debug!(%error, "the cells were not counted");
                    }
                    if let Err(error) = self.read_residents().await {
                        tracing::debug!(error = error.chain(), "the tenants were not counted");
                    }
                }
            }
        }
    }

    async fn look(&self) -> Result<BreakerState, EffectError> {
        let prefix = self.breaker.database.settings().name_prefix.clone();
        // Once to make the control schema, once to see it, and once more in case somebody else is migrating it.
        for _ in 0..3 {
            let facts = self.breaker.database.observe_instance(&self.cluster_id).await?;
            let expected = self.expected(facts.control.as_ref().map(|c| c.database_id));
            match plan_instance(&facts, &prefix, expected) {
                InstancePlan::Fit { database_id, warnings } => {
                    for warning in warnings {
                        tracing::warn!(instance = self.breaker.name(), "{warning}");
                    }
                    self.raise_epoch().await?;
                    // After that: what an earlier leader sent is there by now, or never will be.
                    self.read_residents().await?;
                    return Ok(BreakerState::Open(database_id));
                }
                InstancePlan::Unfit { findings } => {
                    return Ok(BreakerState::Closed(ReadError {
                        class: ErrorClass::Denied,
                        note: findings.join("; "),
                    }));
                }
                InstancePlan::Changed { expected, found } => return Ok(BreakerState::Changed { expected, found }),
                InstancePlan::CreateControlSchema | InstancePlan::MigrateControlSchema => {
                    self.fence.check()?;
                    self.breaker.database.perform_migrate_control().await?;
                }
            }
        }
        Err(EffectError::new(ErrorClass::Bug, "the control schema does not come up to date"))
    }

    /// The database that cells and Tenants were made in, less the one that the settings give up for lost.
    fn expected(&self, found: Option<DatabaseId>) -> Option<DatabaseId> {
        let settings = self.breaker.database.settings();
        let mut known: BTreeSet<DatabaseId> = self.registry.database_ids(&settings.name);
        for (_, watched) in self.tenants.all() {
            let status = watched.object.as_ref().ok().and_then(|t| t.status.as_ref());
            let database = status.and_then(|s| s.database.as_ref()).filter(|d| d.instance == settings.name);
            known.extend(database.and_then(|d| d.database_id.parse().ok()).map(DatabaseId));
        }
        if let Some(lost) = settings.lost_database_id {
            known.remove(&lost);
        }
        found.filter(|id| known.contains(id)).or_else(|| known.first().copied())
    }

    /// Takes in whom the ledger has, where a tenant can be in several.
    async fn read_residents(&self) -> Result<(), EffectError> {
        if self.instances.are_several() {
            let residents = self.breaker.database.observe_residents().await?;
            self.instances.note_residents(self.breaker.name(), residents);
        }
        Ok(())
    }

    /// Raises the row to our epoch. A larger row means that the Lease was lost or restored: then the Lease steps over
    /// it first. If somebody newer leads, that write fails and the process ends.
    async fn raise_epoch(&self) -> Result<(), EffectError> {
        // Changes may be under way with the one that was raised before, though leadership has stepped over another
        // database's since.
        let Epoch(mut ours) = self.breaker.raised().unwrap_or(Epoch(self.epochs.current()));
        loop {
            self.fence.check()?;
            let Epoch(row) = self.breaker.database.perform_raise_epoch(&self.cluster_id, Epoch(ours)).await?;
            if row <= ours {
                self.breaker.set_raised(Epoch(ours));
                return Ok(());
            }
            tracing::info!(
                instance = self.breaker.name(),
                row,
                ours,
                "the ledger has a later epoch than the leader Lease; stepping over it"
            );
            self.epochs.step_over(row).await;
            ours = self.epochs.current();
        }
    }
}
