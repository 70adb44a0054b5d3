//! The real world: the databases of the settings, one API server.

use crate::effects::{
    database::{
        breaker::{BreakerState, CircuitBreaker},
        instances::Instances,
        rollout_slots::RolloutSlots,
    },
    entropy,
    error::EffectError,
    kubernetes::{
        claims::TenantIdClaims, error::required, fence::LeaseFence, keys::KeySecrets, objects::Objects,
        registry::Registry, replicas::ReplicaTracker, revisions::Revisions,
    },
    postgres::{self, PgError, PgErrorKind},
};
use crate::{
    api::{AgentConfig, Tenant},
    domain::{
        class::ErrorClass,
        custom_migrations::CustomMigrations,
        ident::{DatabaseId, Epoch, Incarnation, ObjectId, TenantId},
        keys::Algorithm,
    },
    plan::{
        instance::rollout::FleetFacts,
        observed::{DatabaseView, Fresh, ReadError},
    },
};
use kube::Client;
use std::sync::Arc;

/// Everything that a pass can look at and change. Clones share it.
#[derive(Clone)]
pub struct LiveWorld {
    /// Tenants.
    pub tenants: Objects<Tenant>,
    /// AgentConfigs.
    pub agents: Objects<AgentConfig>,
    /// The registry.
    pub registry: Registry,
    /// Who claims which tenant id.
    pub claims: TenantIdClaims,
    /// The replicas of the agent API.
    pub replica_tracker: ReplicaTracker,
    /// The databases.
    pub instances: Instances,
    /// Whose turn it is in an upgrade of the fleet.
    pub rollout_slots: RolloutSlots,
    pub(crate) keys: KeySecrets,
    pub(crate) revisions: Revisions,
    pub(crate) client: Client,
    cluster_id: Arc<str>,
    fence: LeaseFence,
}

/// What a world is made of.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Leadership.
    pub fence: LeaseFence,
    /// Name of this operator in events.
    pub instance: Option<String>,
    /// Namespace of the registry.
    pub registry_namespace: String,
    /// The replicas.
    pub replica_tracker: ReplicaTracker,
    /// The databases.
    pub instances: Instances,
    /// Which cluster this is.
    pub cluster_id: String,
    /// Who hears of changes of the registry.
    pub changes: tokio::sync::mpsc::UnboundedSender<crate::effects::kubernetes::registry::RegistryChange>,
}

impl LiveWorld {
    /// Puts a world together.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, fence, instance, registry_namespace, replica_tracker, instances, cluster_id, changes } =
            parts;
        Self {
            tenants: Objects::new(client.clone(), fence.clone(), instance.clone()),
            agents: Objects::new(client.clone(), fence.clone(), instance),
            registry: Registry::new(client.clone(), &registry_namespace, fence.clone(), changes),
            claims: TenantIdClaims::default(),
            replica_tracker,
            instances,
            rollout_slots: RolloutSlots::default(),
            keys: KeySecrets::new(client.clone(), fence.clone()),
            revisions: Revisions::new(client.clone(), fence.clone()),
            client,
            cluster_id: cluster_id.into(),
            fence,
        }
    }

    /// The database behind a gate, if it is open. Nothing is sent after leadership ended; the database checks again.
    pub(crate) fn open<'a>(&self, breaker: &'a CircuitBreaker) -> Result<Open<'a>, EffectError> {
        self.fence.check()?;
        let id = match breaker.state() {
            BreakerState::Open(id) => id,
            BreakerState::Closed(read_error) => return Err(EffectError::new(read_error.class, read_error.note)),
            BreakerState::Changed { .. } => {
                return Err(EffectError::new(ErrorClass::Conflict, "the database is another one"));
            }
        };
        let epoch = breaker.raised().unwrap_or(Epoch(self.fence.epoch()));
        let fence = postgres::EpochFence { cluster_id: self.cluster_id.to_string(), epoch };
        Ok(Open { breaker, database: &breaker.database, id, fence })
    }

    /// The Tenants that have data in use in a database, with their ids; none while it can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_owners(&self, breaker: &CircuitBreaker) -> Result<Vec<(TenantId, ObjectId)>, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.observe_owners(&self.cluster_id).await)
    }

    /// Archives of this cluster whose time is over: at most `limit`, the first behind the incarnation `after`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_due_archives(
        &self,
        breaker: &CircuitBreaker,
        after: Option<Incarnation>,
        limit: usize,
    ) -> Result<postgres::DueArchives, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.observe_due_archives(&self.cluster_id, after, limit).await)
    }

    /// Drops an archive whose time is over; `false` where somebody was faster, or gave it more time.
    ///
    /// # Errors
    /// As any change of the database; `Conflict` where something is in the way.
    pub async fn perform_drop_archive(
        &self,
        breaker: &CircuitBreaker,
        archive: &postgres::DueArchive,
    ) -> Result<bool, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.perform_drop_archive(archive, open.id, &open.fence).await)
    }

    /// The Tenants whose database objects look different from what was made; none while the database can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_drift(&self, breaker: &CircuitBreaker) -> Result<Vec<ObjectId>, EffectError> {
        let open = self.open(breaker)?;
        let found = open.done(open.database.observe_drift(&self.cluster_id).await)?;
        Ok(found.into_iter().map(|(_, object)| object).collect())
    }

    /// How far the tenants of a database have come with the migrations: the program's up to `target`, and the platform
    /// team's own.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_fleet(
        &self,
        breaker: &CircuitBreaker,
        target: i32,
        own: Option<&CustomMigrations>,
        canaries: &[String],
        first: usize,
    ) -> Result<FleetFacts, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.observe_fleet(&self.cluster_id, target, own, canaries, first).await)
    }

    /// Says in a database that this leader lives.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn perform_beat(&self, breaker: &CircuitBreaker) -> Result<(), EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.perform_beat(&open.fence).await)
    }

    /// Draws material; without it the database is left alone in this pass, and the status says why.
    pub(crate) fn draw(&self, database: &mut DatabaseView, algorithm: Algorithm) -> Fresh {
        let (fresh, error) = entropy::draw_or_nothing(algorithm);
        if let Some(error) = error {
            *database = DatabaseView::Unknown(ReadError { class: error.class, note: error.chain() });
        }
        fresh
    }

    /// The UID of a namespace: that of `kube-system` tells one cluster from another.
    ///
    /// # Errors
    /// As any request.
    pub async fn observe_cluster_id(client: &Client) -> Result<String, EffectError> {
        let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
        let namespace = required("read namespace kube-system", api.get("kube-system")).await?;
        namespace.metadata.uid.ok_or_else(|| EffectError::new(ErrorClass::Bug, "namespace kube-system has no UID"))
    }
}

/// A database that may be used now.
pub(crate) struct Open<'a> {
    breaker: &'a CircuitBreaker,
    pub(crate) database: &'a postgres::Database,
    /// Identity of the database.
    pub(crate) id: DatabaseId,
    /// The fence that every change of it checks.
    pub(crate) fence: postgres::EpochFence,
}

impl Open<'_> {
    /// Name of the instance.
    pub(crate) fn name(&self) -> &str {
        self.breaker.name()
    }

    /// What came of using it. An outage closes its gate.
    pub(crate) fn done<T>(&self, result: Result<T, PgError>) -> Result<T, EffectError> {
        result.map_err(|error| {
            note_database_error(self.breaker, &error);
            error.into()
        })
    }
}

/// What an error of the database means for everybody.
pub(crate) fn note_database_error(breaker: &CircuitBreaker, error: &PgError) {
    match error.kind {
        PgErrorKind::Unreachable | PgErrorKind::NoControlSchema => {
            breaker.trip(ReadError { class: ErrorClass::Transient, note: error.to_string() });
        }
        PgErrorKind::Interrupted
        | PgErrorKind::Fenced
        | PgErrorKind::AlreadyDone
        | PgErrorKind::FileFailed
        | PgErrorKind::Refused => {}
    }
}
