//! The real world: the API server and the databases of the settings.

use crate::effects::{
    database::{
        breaker::{BreakerState, CircuitBreaker},
        instances::Instances,
        rollout_slots::RolloutSlots,
    },
    entropy,
    error::EffectError,
    kubernetes::{
        claims::TenantIdClaims, credentials::CredentialSecrets, error::required, fence::LeaseFence, keys::KeySecrets,
        objects::Objects, registry::Registry, replicas::ReplicaTracker, revisions::Revisions,
    },
    postgres::{self, PgError, PgErrorKind},
};
use crate::{
    api::{AgentConfig, Tenant},
    domain::{
        class::ErrorClass,
        custom_migrations::CustomMigrations,
        ident::{Epoch, Incarnation, ObjectId, TenantId},
        keys::Algorithm,
    },
    plan::{
        instance::rollout::RolloutFacts,
        observed::{DatabaseView, Fresh, ReadError},
    },
};
use kube::Client;
use std::sync::Arc;

/// Everything that a reconcile observes and changes. Clones share it.
#[derive(Clone)]
pub struct LiveWorld {
    /// Tenants.
    pub tenants: Objects<Tenant>,
    /// AgentConfigs.
    pub agents: Objects<AgentConfig>,
    /// The registry.
    pub registry: Registry,
    /// Which Tenants claim a tenant id.
    pub claims: TenantIdClaims,
    /// The replicas of the agent API.
    pub replica_tracker: ReplicaTracker,
    /// The databases.
    pub instances: Instances,
    /// Which tenants are migrated now.
    pub rollout_slots: RolloutSlots,
    pub(crate) credentials: CredentialSecrets,
    pub(crate) keys: KeySecrets,
    pub(crate) revisions: Revisions,
    pub(crate) client: Client,
    pub(super) cluster_id: Arc<str>,
    fence: LeaseFence,
}

/// The parts of a world.
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
    /// Id of the cluster.
    pub cluster_id: String,
    /// Receives the changes of the registry.
    pub changes: tokio::sync::mpsc::UnboundedSender<crate::effects::kubernetes::registry::RegistryChange>,
}

impl LiveWorld {
    /// Creates a world.
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
            credentials: CredentialSecrets::new(client.clone()),
            keys: KeySecrets::new(client.clone(), fence.clone()),
            revisions: Revisions::new(client.clone(), fence.clone()),
            client,
            cluster_id: cluster_id.into(),
            fence,
        }
    }

    /// The database behind a circuit breaker, if it is closed. Nothing is sent after leadership ended; the database checks that
    /// again.
    pub(crate) fn open<'a>(&self, breaker: &'a CircuitBreaker) -> Result<Open<'a>, EffectError> {
        self.fence.check()?;
        let id = match breaker.state() {
            BreakerState::Closed(id) => id,
            BreakerState::Open(read_error) => return Err(EffectError::new(read_error.class, read_error.note)),
            BreakerState::Changed { .. } => {
                return Err(EffectError::new(ErrorClass::Conflict, "the database has been replaced"));
            }
        };
        let epoch = breaker.raised().unwrap_or(Epoch(self.fence.epoch()));
        let fence = postgres::EpochFence { cluster_id: self.cluster_id.to_string(), epoch };
        let writer = postgres::Writer { database_id: id, fence };
        Ok(Open { breaker, database: &breaker.database, writer })
    }

    /// The Tenants with data in use in a database, and their tenant ids.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_owners(&self, breaker: &CircuitBreaker) -> Result<Vec<(TenantId, ObjectId)>, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.observe_owners(&self.cluster_id).await)
    }

    /// At most `limit` expired archives of this cluster, starting after the incarnation `after`.
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

    /// Drops an expired archive. Returns `false` if it was taken over, dropped or extended meanwhile.
    ///
    /// # Errors
    /// When the database can't be changed; `Conflict` if another object depends on the archive.
    pub async fn perform_drop_archive(
        &self,
        breaker: &CircuitBreaker,
        archive: &postgres::DueArchive,
    ) -> Result<bool, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.perform_drop_archive(archive, open.writer.database_id, &open.writer.fence).await)
    }

    /// The Tenants with database objects that differ from what was created.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_drift(&self, breaker: &CircuitBreaker) -> Result<Vec<ObjectId>, EffectError> {
        let open = self.open(breaker)?;
        let found = open.done(open.database.observe_drift(&self.cluster_id).await)?;
        Ok(found.into_iter().map(|(_, object)| object).collect())
    }

    /// The progress of the tenants of a database: built-in migrations up to `target`, and custom migrations.
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
    ) -> Result<RolloutFacts, EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.observe_fleet(&self.cluster_id, target, own, canaries, first).await)
    }

    /// Writes the heartbeat of the leader to a database.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn perform_heartbeat(&self, breaker: &CircuitBreaker) -> Result<(), EffectError> {
        let open = self.open(breaker)?;
        open.done(open.database.perform_heartbeat(&open.writer.fence).await)
    }

    /// Draws random values. If that fails, this reconcile does not change the database, and the status has the error.
    pub(crate) fn draw(&self, database: &mut DatabaseView, algorithm: Algorithm) -> Fresh {
        let (fresh, error) = entropy::draw_or_nothing(algorithm);
        if let Some(error) = error {
            *database = DatabaseView::Unknown(error.read_error());
        }
        fresh
    }

    /// The UID of the namespace `kube-system`, which identifies the cluster.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn observe_cluster_id(client: &Client) -> Result<String, EffectError> {
        let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
        let namespace = required("read namespace kube-system", api.get("kube-system")).await?;
        namespace.metadata.uid.ok_or_else(|| EffectError::new(ErrorClass::Bug, "namespace kube-system has no UID"))
    }
}

/// A database that can be used now.
pub(crate) struct Open<'a> {
    breaker: &'a CircuitBreaker,
    pub(crate) database: &'a postgres::Database,
    /// The leader and the database, which every change checks.
    pub(crate) writer: postgres::Writer,
}

impl Open<'_> {
    /// Name of the instance.
    pub(crate) fn name(&self) -> &str {
        self.breaker.name()
    }

    /// Converts a result. An outage opens the circuit breaker.
    pub(crate) fn done<T>(&self, result: Result<T, PgError>) -> Result<T, EffectError> {
        result.map_err(|error| {
            note_database_error(self.breaker, &error);
            error.into()
        })
    }
}

/// Opens the circuit breaker after an outage.
pub(crate) fn note_database_error(breaker: &CircuitBreaker, error: &PgError) {
    match error.kind {
        PgErrorKind::Unreachable | PgErrorKind::Untrusted | PgErrorKind::Unwritable | PgErrorKind::NoControlSchema => {
            breaker
                .trip(ReadError { reason: error.reason(), ..ReadError::new(ErrorClass::Transient, error.to_string()) });
        }
        PgErrorKind::Interrupted
        | PgErrorKind::Fenced
        | PgErrorKind::AlreadyDone
        | PgErrorKind::FileFailed
        | PgErrorKind::Refused => {}
    }
}
