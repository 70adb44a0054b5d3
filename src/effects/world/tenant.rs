//! Observing and changing what belongs to a Tenant.

use super::{
    TenantScope, World,
    live::{LiveWorld, Open},
};
use crate::effects::{
    database::breaker::CircuitBreaker,
    entropy::draw_login_id,
    error::EffectError,
    kubernetes::{cache::Key, keys::ObjectVersion, objects::Watched},
    postgres::{CellLogin, PgErrorKind},
};
use crate::{
    api::{AgentConfig, names},
    domain::{
        cells::CellRoles,
        class::ErrorClass,
        entry::{CellEntry, Entry, FIRST_FORMAT, agent_entry_name, cell_entry_name},
        ident::{AgentName, CellNumber, DatabaseId, Uid, Version},
        keys::KeyBytes,
        logins::{LoginMark, LoginSlot},
        resolve::AgentLookup,
    },
    plan::{
        acks::unacknowledged_speakers,
        observed::{DatabaseView, EntryView, ObservedTenant, Seen},
        step::{CellStep, DatabaseStep, Done, EntryStep, KeysStep, ObjectStep, TenantStep},
    },
};
use std::collections::BTreeMap;

impl World<TenantScope> for LiveWorld {
    /// The registry entry.
    fn observe_first(&self, scope: &TenantScope) -> Seen<EntryView> {
        match &scope.tenant_id {
            Some(id) => self.registry.observe_tenant(id, &scope.object),
            None => Seen::Missing,
        }
    }

    async fn observe(&self, scope: &TenantScope) -> ObservedTenant {
        // The entry is read before the database: it is deleted after its row is closed. Otherwise a missing entry could be
        // written again because of a row that another reconcile closes meanwhile.
        let entry = self.observe_first(scope);
        let ((breaker, mut database), keys, object) = tokio::join!(
            self.observe_placement(scope),
            self.keys.observe(&scope.object, &scope.key_secret),
            self.tenants.observe_presence(&scope.object, scope.vanished)
        );
        let fresh = self.draw(&mut database, scope.algorithm);
        let instance = breaker.map(|breaker| breaker.name().to_owned());
        let cell = match &database {
            DatabaseView::Facts(facts) => facts.cell(scope.adopt.as_ref()),
            DatabaseView::Unknown(_) | DatabaseView::Changed { .. } | DatabaseView::Unplaced(_) => None,
        };
        let holds = |name: &String, cell| self.registry.holds(&cell_entry_name(name, cell));
        ObservedTenant {
            object,
            finalizer: scope.finalizers.iter().any(|f| f == names::TENANT_FINALIZER),
            rival: scope.tenant_id.as_ref().and_then(|id| self.claims.rival(id, &scope.object)),
            recorded: scope.recorded.clone(),
            database,
            keys,
            entry,
            agents: self.observe_agents(scope),
            cell_entry: instance.as_ref().zip(cell).is_some_and(|(name, cell)| holds(name, cell)),
            instance,
            replicas: self.replica_tracker.observe(),
            admitted: self.rollout_slots.admits(&scope.object.uid),
            fresh,
        }
    }

    async fn perform(&self, scope: &TenantScope, step: &TenantStep) -> Result<Done, EffectError> {
        match step {
            TenantStep::Object(step) => {
                if let (ObjectStep::RemoveFinalizer, Some(id)) = (step, &scope.tenant_id) {
                    for name in id.earlier_entry_name().into_iter().chain([id.entry_name()]) {
                        self.registry.check_gone(&name, &scope.object.uid).await?;
                    }
                }
                self.tenants.perform(&scope.object, step).await
            }
            TenantStep::Cell(CellStep::Create { cell, password }) => {
                self.perform_create_cell(self.instance(scope)?, *cell, password).await
            }
            TenantStep::Database(step) => self.perform_database_step(scope, step).await,
            TenantStep::Keys(step) => self.perform_keys_step(scope, step).await,
            TenantStep::Entry(EntryStep::Put { entry, replace }) => {
                self.registry.perform_put(&Entry::Tenant(entry.clone()), *replace).await
            }
            TenantStep::Entry(EntryStep::Delete { uid, version }) => match &scope.tenant_id {
                Some(id) => self.registry.perform_delete(&self.registry.tenant_entry_name(id), uid, *version).await,
                None => Ok(Done::Plain),
            },
        }
    }
}

impl LiveWorld {
    async fn perform_database_step(&self, scope: &TenantScope, step: &DatabaseStep) -> Result<Done, EffectError> {
        let open = match step.claimed_id() {
            Some(tenant) => self.open_to_create(scope, tenant)?,
            None => self.open_instance(scope)?,
        };
        let object = &scope.object;
        let done = open.database.perform(step, object, &open.writer).await;
        if let DatabaseStep::Migrate(_) = step {
            let failed = matches!(&done, Err(error) if error.kind == PgErrorKind::FileFailed);
            if failed {
                self.rollout_slots.note_failure();
            }
            if failed || done.is_ok() {
                self.rollout_slots.end(&object.uid);
            }
        }
        if let (DatabaseStep::Close(close), Ok(())) = (step, &done) {
            self.instances.end(&object.uid, &close.tenant_id, open.name());
        }
        open.changed(done)
    }

    async fn perform_keys_step(&self, scope: &TenantScope, step: &KeysStep) -> Result<Done, EffectError> {
        let (object, secret) = (&scope.object, &scope.key_secret);
        match step {
            KeysStep::Create { keyring } => self.keys.perform_create(object, secret, keyring).await,
            KeysStep::Replace { keyring, uid, version, change: _, acknowledged } => {
                if let Some(entry) = acknowledged {
                    self.check_acknowledged(*entry).await?;
                }
                self.keys.perform_replace(object, secret, keyring, ObjectVersion { uid, version: *version }).await
            }
            KeysStep::Delete { uid, version } => {
                self.keys.perform_delete(object, secret, ObjectVersion { uid, version: *version }).await
            }
        }
    }

    /// Reads the replicas from the API server, not from the cache: a replica that started since then may not know the key
    /// that is about to sign.
    async fn check_acknowledged(&self, version: Version) -> Result<(), EffectError> {
        let replicas = self.replica_tracker.observe_live(&self.client).await?;
        let missing = unacknowledged_speakers(version, &replicas);
        match missing.first() {
            None => Ok(()),
            Some(name) => {
                Err(EffectError::new(ErrorClass::Transient, format!("replica {name} does not know the new key yet")))
            }
        }
    }

    fn observe_agents(&self, scope: &TenantScope) -> BTreeMap<AgentName, AgentLookup> {
        let lookup = |config: &String| {
            let found = self.agents.cache.get(&Key::new(&scope.object.namespace, config));
            found.as_deref().map_or(AgentLookup::Missing, |watched| self.resolve_lookup(watched))
        };
        scope.agents.iter().map(|(name, config)| (name.clone(), lookup(config))).collect()
    }

    fn resolve_lookup(&self, watched: &Watched<AgentConfig>) -> AgentLookup {
        let metadata = watched.metadata();
        match &metadata.uid {
            Some(uid) => {
                let uid = Uid(uid.clone());
                if metadata.deletion_timestamp.is_some() {
                    return AgentLookup::Leaving(uid);
                }
                let published = self.registry.holds(&agent_entry_name(&uid));
                if published { AgentLookup::Published(uid) } else { AgentLookup::Unpublished(uid) }
            }
            None => AgentLookup::Missing,
        }
    }

    /// Publishes the login, then creates the roles with it. Of concurrent calls, the first one does it.
    pub(crate) async fn perform_create_cell(
        &self,
        breaker: &CircuitBreaker,
        cell: CellNumber,
        password: &KeyBytes,
    ) -> Result<Done, EffectError> {
        let _one = breaker.cells.lock().await;
        let open = self.open(breaker)?;
        let name = cell_entry_name(breaker.name(), cell);
        let published = match self.registry.entry(&name) {
            Some(Entry::Cell(entry)) => Some(entry),
            _ => None,
        };
        if published.is_some() && open.database.has_cell(cell) {
            return Ok(Done::Plain);
        }
        let entry = match published {
            Some(entry) => entry,
            None => {
                let slot = observe_free_login(&open, cell).await?;
                let login = CellLogin { slot, id: Some(draw_login_id()), password: password.clone() };
                let entry = self.cell_entry(breaker, cell, open.writer.database_id, &login, false);
                self.registry.perform_put(&Entry::Cell(entry.clone()), None).await?;
                entry
            }
        };
        let prefix = &breaker.database.settings().name_prefix;
        let slot = CellRoles::of(prefix, cell).slot_of(&entry.user).ok_or_else(|| {
            EffectError::new(ErrorClass::Conflict, format!("entry '{name}' names a login that is not the cell's"))
        })?;
        let login = CellLogin { slot, id: entry.login.map(|mark| mark.id), password: entry.password };
        open.changed(open.database.perform_create_cell(cell, &login, &open.writer).await)
    }

    /// The entry of a cell, from the settings and a login. `revokes`: the previous login ends at once.
    pub(crate) fn cell_entry(
        &self,
        breaker: &CircuitBreaker,
        cell: CellNumber,
        database_id: DatabaseId,
        login: &CellLogin,
        revokes: bool,
    ) -> CellEntry {
        let settings = breaker.database.settings();
        let (host, port) = settings.agent_api_address();
        CellEntry {
            format: FIRST_FORMAT,
            instance: settings.name.clone(),
            database_id,
            cell,
            host: host.to_owned(),
            port,
            database: settings.database.clone(),
            ssl_mode: settings.ssl_mode.as_str().to_owned(),
            user: CellRoles::of(&settings.name_prefix, cell).login(login.slot).to_owned(),
            password: login.password.clone(),
            login: login.id.map(|id| LoginMark { id, since: self.registry.now(), revokes }),
        }
    }
}

/// The login of a new entry: the first one, or the one that is not in use if the entry of an existing cell was lost, so that
/// open sessions are not interrupted.
async fn observe_free_login(open: &Open<'_>, cell: CellNumber) -> Result<LoginSlot, EffectError> {
    if !open.database.may_have_cell(cell) {
        return Ok(LoginSlot::A);
    }
    let known = open.done(open.database.observe_logins().await)?;
    Ok(known.iter().find(|facts| facts.cell == cell).map_or(LoginSlot::A, |facts| facts.active.other()))
}
