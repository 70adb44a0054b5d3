//! Supervises one database: checks it before anything is created in it, raises the epoch, closes the circuit breaker, and
//! probes the database during an outage.

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
        postgres::EpochFence,
    },
    plan::{
        instance::{
            cells::CellFacts,
            preflight::{InstancePlan, plan_instance},
        },
        observed::ReadError,
    },
};
use std::{collections::BTreeSet, time::Duration};

/// How often an unfit or replaced database is checked again: manual intervention is required.
const UNFIT_PAUSE: Duration = Duration::from_secs(15);
/// Maximum pause between probes of a database that does not answer.
const MAX_PROBE_PAUSE: Duration = Duration::from_secs(10);
/// How often the tenants of each cell are counted again.
const RECOUNT: Duration = Duration::from_secs(300);

/// The supervisor of a database.
pub(crate) struct Supervisor {
    /// The circuit breaker of the database.
    pub breaker: CircuitBreaker,
    /// All databases.
    pub instances: Instances,
    /// The registry. Its cell entries name the expected database.
    pub registry: Registry,
    /// The Tenants. Their status names it, too.
    pub tenants: Cache<Watched<Tenant>>,
    /// Leadership.
    pub fence: LeaseFence,
    /// Raises the epoch of the Lease.
    pub epochs: EpochRequest,
    /// Id of this cluster.
    pub cluster_id: String,
}

impl Supervisor {
    /// Runs until the process ends.
    pub(crate) async fn run(self) {
        let mut pause = Duration::from_secs(1);
        let mut logged = String::new();
        let mut log_change = |line: String, usable: bool| {
            if line != logged {
                let instance = self.breaker.name();
                match usable {
                    true => tracing::info!(instance, "{line}"),
                    false => tracing::warn!(instance, "{line}"),
                }
                logged = line;
            }
        };
        loop {
            match self.check().await {
                Ok(BreakerState::Closed(id)) => {
                    log_change(format!("database {id} is in use"), true);
                    self.breaker.set(BreakerState::Closed(id));
                    pause = Duration::from_secs(1);
                    self.wait_for_outage().await;
                    continue;
                }
                Ok(BreakerState::Changed { expected, found }) => {
                    let found_text = found.map_or("none".to_owned(), |id| id.to_string());
                    log_change(
                        format!(
                            "another database answered: expected {expected}, found {found_text}; nothing is created in it"
                        ),
                        false,
                    );
                    self.breaker.set(BreakerState::Changed { expected, found });
                    pause = UNFIT_PAUSE;
                }
                Ok(BreakerState::Open(read_error)) => {
                    log_change(format!("the database is not fit for use: {}", read_error.note), false);
                    self.breaker.set(BreakerState::Open(read_error));
                    pause = UNFIT_PAUSE;
                }
                Err(error) => {
                    log_change(format!("the database can't be used: {}", error.chain()), false);
                    self.breaker.set(BreakerState::Open(error.read_error()));
                    pause = (pause * 2).min(MAX_PROBE_PAUSE);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns when the circuit breaker was opened.
    async fn wait_for_outage(&self) {
        let mut state = self.breaker.follow();
        loop {
            let opened = async { state.wait_for(|state| !state.is_closed()).await.map(|_| ()) };
            tokio::select! {
                _ = opened => return,
                () = tokio::time::sleep(RECOUNT) => {
                    if let Err(error) = self.breaker.database.observe_cells().await {
                        tracing::debug!(%error, "the cells were not counted");
                    }
                    if let Err(error) = self.check_cells().await {
                        tracing::warn!(instance = self.breaker.name(), error = error.chain(), "the cells were not checked");
                    }
                    if let Err(error) = self.read_residents().await {
                        tracing::debug!(error = error.chain(), "the tenants were not counted");
                    }
                }
            }
        }
    }

    async fn check(&self) -> Result<BreakerState, EffectError> {
        let prefix = self.breaker.database.settings().name_prefix.clone();
        // Once to create the control schema, once to read it, and once more if another operator is migrating it.
        for _ in 0..3 {
            let facts = self.breaker.database.observe_instance(&self.cluster_id).await?;
            let expected = self.expected(facts.control.as_ref().map(|c| c.database_id));
            match plan_instance(&facts, &prefix, expected) {
                InstancePlan::Fit { database_id, warnings } => {
                    for warning in warnings {
                        tracing::warn!(instance = self.breaker.name(), "{warning}");
                    }
                    self.raise_epoch().await?;
                    self.repair_cells(facts.control.map(|control| control.cells).unwrap_or_default()).await?;
                    // After that: a change that an earlier leader sent is committed by now, or will be refused.
                    self.read_residents().await?;
                    return Ok(BreakerState::Closed(database_id));
                }
                InstancePlan::Unfit { findings } => {
                    return Ok(BreakerState::Open(ReadError::new(ErrorClass::Denied, findings.join("; "))));
                }
                InstancePlan::Changed { expected, found } => return Ok(BreakerState::Changed { expected, found }),
                InstancePlan::CreateControlSchema | InstancePlan::MigrateControlSchema => {
                    self.fence.check()?;
                    self.breaker.database.perform_migrate_control().await?;
                }
            }
        }
        Err(EffectError::new(ErrorClass::Bug, "the control schema could not be brought up to date"))
    }

    /// Repairs what a restore or an administrator took from the cells while the database is in use.
    async fn check_cells(&self) -> Result<(), EffectError> {
        let facts = self.breaker.database.observe_instance(&self.cluster_id).await?;
        self.repair_cells(facts.control.map(|control| control.cells).unwrap_or_default()).await
    }

    async fn repair_cells(&self, cells: Vec<CellFacts>) -> Result<(), EffectError> {
        let Some(epoch) = self.breaker.raised() else { return Ok(()) };
        let fence = EpochFence { cluster_id: self.cluster_id.clone(), epoch };
        for facts in cells.iter().filter(|facts| facts.is_repairable()) {
            self.fence.check()?;
            self.breaker.database.perform_repair_cell(facts.cell, facts.members, &fence).await?;
            tracing::info!(instance = self.breaker.name(), cell = facts.cell.0, "a cell was repaired");
        }
        Ok(())
    }

    /// The database that cells and Tenants were created in, without the one that the settings name as lost.
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

    /// Reads the tenants of the ledger, if a tenant can be in one of several instances.
    async fn read_residents(&self) -> Result<(), EffectError> {
        if self.instances.are_several() {
            let residents = self.breaker.database.observe_residents().await?;
            self.instances.note_residents(self.breaker.name(), residents);
        }
        Ok(())
    }

    /// Raises the epoch in the database. A greater epoch there means that the Lease was lost or restored: then the epoch of
    /// the Lease is raised above it first. If a newer leader exists, that write fails and the process ends.
    async fn raise_epoch(&self) -> Result<(), EffectError> {
        // Sent changes may carry the epoch that was raised before. The epoch of the Lease may be greater since, because of
        // another database.
        let Epoch(mut epoch) = self.breaker.raised().unwrap_or(Epoch(self.epochs.current()));
        loop {
            self.fence.check()?;
            let Epoch(row) = self.breaker.database.perform_raise_epoch(&self.cluster_id, Epoch(epoch)).await?;
            if row <= epoch {
                self.breaker.set_raised(Epoch(epoch));
                return Ok(());
            }
            tracing::info!(
                instance = self.breaker.name(),
                row,
                epoch,
                "the ledger has a later epoch than the leader Lease; the epoch of the Lease is raised above it"
            );
            self.epochs.raise_above(row).await;
            epoch = self.epochs.current();
        }
    }
}
