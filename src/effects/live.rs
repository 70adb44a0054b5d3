//! The real world: one database, one API server.

use super::{
    entropy,
    error::EffectError,
    gate::{Gate, GateState},
    kubernetes::{
        claims::Claims, error::required, fence::Fence, keys::KeySecrets, objects::Objects, registry::Registry,
        replicas::Board, revisions::Revisions,
    },
    postgres::{self, PgError, PgErrorKind},
    turns::Turns,
};
use crate::{
    api::{AgentConfig, Tenant},
    domain::{
        class::ErrorClass,
        ident::{DatabaseId, Epoch, Incarnation, ObjectId, TenantId},
        keys::Algorithm,
        own_migrations::OwnMigrations,
    },
    plan::{
        observed::{DatabaseView, Fresh, Unseen},
        rollout::FleetFacts,
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
    pub claims: Claims,
    /// The replicas of the agent API.
    pub board: Board,
    /// The database.
    pub gate: Gate,
    /// Whose turn it is in an upgrade of the fleet.
    pub turns: Turns,
    pub(super) keys: KeySecrets,
    pub(super) revisions: Revisions,
    pub(super) client: Client,
    /// Held while a cell is made, so that many new tenants make it once.
    pub(super) cells: Arc<tokio::sync::Mutex<()>>,
    cluster_id: Arc<str>,
    fence: Fence,
}

/// What a world is made of.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// Leadership.
    pub fence: Fence,
    /// Name of this operator in events.
    pub instance: Option<String>,
    /// Namespace of the registry.
    pub registry_namespace: String,
    /// The replicas.
    pub board: Board,
    /// The database.
    pub gate: Gate,
    /// Which cluster this is.
    pub cluster_id: String,
    /// Who hears of changes of the registry.
    pub news: tokio::sync::mpsc::UnboundedSender<super::kubernetes::registry::News>,
}

impl LiveWorld {
    /// Puts a world together.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, fence, instance, registry_namespace, board, gate, cluster_id, news } = parts;
        Self {
            tenants: Objects::new(client.clone(), fence.clone(), instance.clone()),
            agents: Objects::new(client.clone(), fence.clone(), instance),
            registry: Registry::new(client.clone(), &registry_namespace, fence.clone(), news),
            claims: Claims::default(),
            board,
            gate,
            turns: Turns::default(),
            keys: KeySecrets::new(client.clone(), fence.clone()),
            revisions: Revisions::new(client.clone(), fence.clone()),
            client,
            cells: Arc::default(),
            cluster_id: cluster_id.into(),
            fence,
        }
    }

    /// The fence that every change of the database checks.
    pub(super) fn database_fence(&self) -> postgres::Fence {
        postgres::Fence { cluster_id: self.cluster_id.to_string(), epoch: Epoch(self.fence.epoch()) }
    }

    /// The database, if the gate is open. Nothing is sent after leadership ended; the database checks again.
    pub(super) fn open_database(&self) -> Result<DatabaseId, EffectError> {
        self.fence.check()?;
        match self.gate.state() {
            GateState::Open(id) => Ok(id),
            GateState::Closed(unseen) => Err(EffectError::new(unseen.class, unseen.note)),
            GateState::Changed { .. } => Err(EffectError::new(ErrorClass::Conflict, "the database is another one")),
        }
    }

    /// What an error of the database means for everybody, and for this pass.
    pub(super) fn database_error(&self, error: PgError) -> EffectError {
        self.note_database_error(&error);
        error.into()
    }

    pub(super) fn note_database_error(&self, error: &PgError) {
        match error.kind {
            PgErrorKind::Unreachable | PgErrorKind::NoControlSchema => {
                self.gate.trip(Unseen { class: ErrorClass::Transient, note: error.to_string() });
            }
            PgErrorKind::Interrupted
            | PgErrorKind::Fenced
            | PgErrorKind::AlreadyDone
            | PgErrorKind::FileFailed
            | PgErrorKind::Refused => {}
        }
    }

    /// The Tenants that have data in use in the database, with their ids; none while it can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_owners(&self) -> Result<Vec<(TenantId, ObjectId)>, EffectError> {
        self.open_database()?;
        self.gate.database.observe_owners(&self.cluster_id).await.map_err(|error| self.database_error(error))
    }

    /// Archives of this cluster whose time is over: at most `limit`, the first behind the incarnation `after`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_due_archives(
        &self,
        after: Option<Incarnation>,
        limit: usize,
    ) -> Result<postgres::DueArchives, EffectError> {
        self.open_database()?;
        let found = self.gate.database.observe_due_archives(&self.cluster_id, after, limit).await;
        found.map_err(|error| self.database_error(error))
    }

    /// Drops an archive whose time is over; `false` where somebody was faster, or gave it more time.
    ///
    /// # Errors
    /// As any change of the database; `Conflict` where something is in the way.
    pub async fn perform_drop_archive(&self, archive: &postgres::DueArchive) -> Result<bool, EffectError> {
        let id = self.open_database()?;
        let done = self.gate.database.perform_drop_archive(archive, id, &self.database_fence()).await;
        done.map_err(|error| self.database_error(error))
    }

    /// The Tenants whose database objects look different from what was made; none while the database can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_drift(&self) -> Result<Vec<ObjectId>, EffectError> {
        self.open_database()?;
        let found = self.gate.database.observe_drift(&self.cluster_id).await.map_err(|e| self.database_error(e))?;
        Ok(found.into_iter().map(|(_, object)| object).collect())
    }

    /// How far the tenants have come with the migrations: the program's up to `target`, and the platform team's own.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_fleet(
        &self,
        target: i32,
        own: Option<&OwnMigrations>,
        canaries: &[String],
        first: usize,
    ) -> Result<FleetFacts, EffectError> {
        self.open_database()?;
        let found = self.gate.database.observe_fleet(&self.cluster_id, target, own, canaries, first).await;
        found.map_err(|error| self.database_error(error))
    }

    /// Says in the database that this leader lives.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn perform_beat(&self) -> Result<(), EffectError> {
        self.open_database()?;
        self.gate.database.perform_beat(&self.database_fence()).await.map_err(|e| self.database_error(e))
    }

    /// Draws material; without it the database is left alone in this pass, and the status says why.
    pub(super) fn draw(&self, database: &mut DatabaseView, algorithm: Algorithm) -> Fresh {
        let (fresh, error) = entropy::draw_or_nothing(algorithm);
        if let Some(error) = error {
            *database = DatabaseView::Unknown(Unseen { class: error.class, note: error.chain() });
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
