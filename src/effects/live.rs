//! The real world: the databases of the settings, one API server.

use super::{
    entropy,
    error::EffectError,
    gate::{Gate, GateState},
    instances::Instances,
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
        ident::{Epoch, Incarnation, ObjectId, TenantId},
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
    /// The databases.
    pub instances: Instances,
    /// Whose turn it is in an upgrade of the fleet.
    pub turns: Turns,
    pub(super) keys: KeySecrets,
    pub(super) revisions: Revisions,
    pub(super) client: Client,
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
    /// The databases.
    pub instances: Instances,
    /// Which cluster this is.
    pub cluster_id: String,
    /// Who hears of changes of the registry.
    pub news: tokio::sync::mpsc::UnboundedSender<super::kubernetes::registry::News>,
}

impl LiveWorld {
    /// Puts a world together.
    pub fn new(parts: Parts) -> Self {
        let Parts { client, fence, instance, registry_namespace, board, instances, cluster_id, news } = parts;
        Self {
            tenants: Objects::new(client.clone(), fence.clone(), instance.clone()),
            agents: Objects::new(client.clone(), fence.clone(), instance),
            registry: Registry::new(client.clone(), &registry_namespace, fence.clone(), news),
            claims: Claims::default(),
            board,
            instances,
            turns: Turns::default(),
            keys: KeySecrets::new(client.clone(), fence.clone()),
            revisions: Revisions::new(client.clone(), fence.clone()),
            client,
            cluster_id: cluster_id.into(),
            fence,
        }
    }

    /// The database behind a gate, if it is open. Nothing is sent after leadership ended; the database checks again.
    pub(super) fn open<'a>(&self, gate: &'a Gate) -> Result<Open<'a>, EffectError> {
        self.fence.check()?;
        let id = match gate.state() {
            GateState::Open(id) => id,
            GateState::Closed(unseen) => return Err(EffectError::new(unseen.class, unseen.note)),
            GateState::Changed { .. } => {
                return Err(EffectError::new(ErrorClass::Conflict, "the database is another one"));
            }
        };
        let epoch = gate.raised().unwrap_or(Epoch(self.fence.epoch()));
        let fence = postgres::Fence { cluster_id: self.cluster_id.to_string(), epoch };
        let writer = postgres::Writer { database_id: id, fence };
        Ok(Open { gate, database: &gate.database, writer })
    }

    /// The Tenants that have data in use in a database, with their ids; none while it can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_owners(&self, gate: &Gate) -> Result<Vec<(TenantId, ObjectId)>, EffectError> {
        let open = self.open(gate)?;
        open.done(open.database.observe_owners(&self.cluster_id).await)
    }

    /// Archives of this cluster whose time is over: at most `limit`, the first behind the incarnation `after`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn observe_due_archives(
        &self,
        gate: &Gate,
        after: Option<Incarnation>,
        limit: usize,
    ) -> Result<postgres::DueArchives, EffectError> {
        let open = self.open(gate)?;
        open.done(open.database.observe_due_archives(&self.cluster_id, after, limit).await)
    }

    /// Drops an archive whose time is over; `false` where somebody was faster, or gave it more time.
    ///
    /// # Errors
    /// As any change of the database; `Conflict` where something is in the way.
    pub async fn perform_drop_archive(&self, gate: &Gate, archive: &postgres::DueArchive) -> Result<bool, EffectError> {
        let open = self.open(gate)?;
        open.done(open.database.perform_drop_archive(archive, open.writer.database_id, &open.writer.fence).await)
    }

    /// The Tenants whose database objects look different from what was made; none while the database can't be asked.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn observe_drift(&self, gate: &Gate) -> Result<Vec<ObjectId>, EffectError> {
        let open = self.open(gate)?;
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
        gate: &Gate,
        target: i32,
        own: Option<&OwnMigrations>,
        canaries: &[String],
        first: usize,
    ) -> Result<FleetFacts, EffectError> {
        let open = self.open(gate)?;
        open.done(open.database.observe_fleet(&self.cluster_id, target, own, canaries, first).await)
    }

    /// Says in a database that this leader lives.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn perform_beat(&self, gate: &Gate) -> Result<(), EffectError> {
        let open = self.open(gate)?;
        open.done(open.database.perform_beat(&open.writer.fence).await)
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

/// A database that may be used now.
pub(super) struct Open<'a> {
    gate: &'a Gate,
    pub(super) database: &'a postgres::Database,
    /// What every change of it checks.
    pub(super) writer: postgres::Writer,
}

impl Open<'_> {
    /// Name of the instance.
    pub(super) fn name(&self) -> &str {
        self.gate.name()
    }

    /// What came of using it. An outage closes its gate.
    pub(super) fn done<T>(&self, result: Result<T, PgError>) -> Result<T, EffectError> {
        result.map_err(|error| {
            note_database_error(self.gate, &error);
            error.into()
        })
    }
}

/// What an error of the database means for everybody.
pub(super) fn note_database_error(gate: &Gate, error: &PgError) {
    match error.kind {
        PgErrorKind::Unreachable | PgErrorKind::NoControlSchema => {
            gate.trip(Unseen { class: ErrorClass::Transient, note: error.to_string() });
        }
        PgErrorKind::Interrupted
        | PgErrorKind::Fenced
        | PgErrorKind::AlreadyDone
        | PgErrorKind::FileFailed
        | PgErrorKind::Refused => {}
    }
}
