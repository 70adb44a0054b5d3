//! Looking at a Tenant's world, and changing it.

use super::{
    TenantScope, World,
    live::{LiveWorld, Open},
};
use crate::effects::{
    database::breaker::CircuitBreaker,
    entropy::draw_login_id,
    error::EffectError,
    kubernetes::{cache::Key, objects::Watched},
    postgres::{CellLogin, PgErrorKind},
};
use crate::{
    api::{AgentConfig, names},
    domain::{
        cells::CellRoles,
        class::ErrorClass,
        entry::{CellEntry, Entry, FORMAT, agent_entry_name, cell_entry_name},
        ident::{AgentName, CellNumber, DatabaseId, Uid, Version},
        keys::KeyBytes,
        logins::{LoginMark, LoginSlot},
        resolve::AgentLookup,
    },
    plan::{
        acks::unacknowledged_speakers,
        observed::{DatabaseView, ObservedTenant, Seen},
        step::{Done, TenantStep},
    },
};
use std::collections::BTreeMap;

impl World<TenantScope> for LiveWorld {
    async fn observe(&self, scope: &TenantScope) -> ObservedTenant {
        // Before the database: an entry goes after its row is closed, so one that is missing here is not put back by a look
        // at a row that another pass closes meanwhile (that of the object when it vanishes).
        let entry = match &scope.tenant_id {
            Some(id) => self.registry.observe_tenant(id, &scope.object.uid),
            None => Seen::Missing,
        };
        let ((home, mut database), keys, object) = tokio::join!(
            self.observe_home(scope),
            self.keys.observe(&scope.object, &scope.key_secret),
            self.tenants.observe_presence(&scope.object, scope.vanished)
        );
        let fresh = self.draw(&mut database, scope.algorithm);
        let instance = home.map(|breaker| breaker.name().to_owned());
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
        let object = &scope.object;
        match step {
            TenantStep::AddFinalizer => self.tenants.perform_add_finalizer(object).await,
            TenantStep::CreateCell { cell, password } => {
                self.perform_create_cell(self.home(scope)?, *cell, password).await
            }
            TenantStep::Provision(provision) => {
                let open = self.open_to_make(scope, &provision.tenant_id)?;
                open.changed(open.database.perform_provision(provision, object, open.id, &open.fence).await)
            }
            TenantStep::Adopt(adoption) => {
                let open = self.open_to_make(scope, &adoption.tenant_id)?;
                open.changed(open.database.perform_adopt(adoption, object, open.id, &open.fence).await)
            }
            TenantStep::PreventAdoption { row } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_prevent_adoption(row, &open.fence).await)
            }
            TenantStep::RepairDatabase { row, found } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_repair(row, found, open.id, &open.fence).await)
            }
            TenantStep::Migrate(step) => {
                let open = self.open_home(scope)?;
                let done = open.database.perform_migrate(step, open.id, &open.fence).await;
                match &done {
                    Ok(()) => self.rollout_slots.end(&object.uid),
                    Err(error) if error.kind == PgErrorKind::FileFailed => {
                        self.rollout_slots.note_failure();
                        self.rollout_slots.end(&object.uid);
                    }
                    Err(_) => {}
                }
                open.changed(done)
            }
            TenantStep::SetAside { tenant_id, name, remains } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_set_aside(tenant_id, name, remains, open.id, &open.fence).await)
            }
            TenantStep::CreateKeys { keyring } => self.keys.perform_create(object, &scope.key_secret, keyring).await,
            TenantStep::ReplaceKeys { keyring, uid, version, change: _, acknowledged } => {
                if let Some(entry) = acknowledged {
                    self.check_acknowledged(*entry).await?;
                }
                self.keys.perform_replace(object, &scope.key_secret, keyring, (uid, *version)).await
            }
            TenantStep::RecordKeyring { row, mark } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_record_keyring(row, mark, &open.fence).await)
            }
            TenantStep::PutEntry { entry, replace } => {
                self.registry.perform_put(&Entry::Tenant(entry.clone()), *replace).await
            }
            TenantStep::SuspendAccess { row } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_suspend_access(row, &open.fence).await)
            }
            TenantStep::ResumeAccess { row } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_resume_access(row, &open.fence).await)
            }
            TenantStep::RevokeAccess { row } => {
                let open = self.open_home(scope)?;
                open.changed(open.database.perform_revoke_access(row, &open.fence).await)
            }
            TenantStep::CloseDatabase(close) => {
                let open = match close.row {
                    Some(_) => self.open_home(scope)?,
                    None => self.open_to_make(scope, &close.tenant_id)?,
                };
                let done = open.changed(open.database.perform_close(close, object, open.id, &open.fence).await)?;
                self.instances.end(&object.uid, &close.tenant_id, open.name());
                Ok(done)
            }
            TenantStep::DeleteEntry { uid, version } => match &scope.tenant_id {
                Some(id) => self.registry.perform_delete(&id.entry_name(), uid, *version).await,
                None => Ok(Done::Plain),
            },
            TenantStep::DeleteKeys { uid, version } => {
                self.keys.perform_delete(object, &scope.key_secret, uid, *version).await
            }
            TenantStep::RemoveFinalizer => {
                if let Some(id) = &scope.tenant_id {
                    self.registry.check_gone(&id.entry_name(), &object.uid).await?;
                }
                self.tenants.perform_remove_finalizer(object).await
            }
            TenantStep::WriteStatus(status) => self.tenants.perform_write_status(object, status).await,
            TenantStep::RecordEvent(notice) => self.tenants.perform_record(object, notice).await,
        }
    }
}

impl LiveWorld {
    /// Looks at the replicas once more, in the API server itself: whoever came since the cache was filled may not know a
    /// key that is about to sign.
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
        let look = |config: &String| {
            let found = self.agents.cache.get(&Key::new(&scope.object.namespace, config));
            found.as_deref().map_or(AgentLookup::Missing, |watched| self.look_up(watched))
        };
        scope.agents.iter().map(|(name, config)| (name.clone(), look(config))).collect()
    }

    fn look_up(&self, watched: &Watched<AgentConfig>) -> AgentLookup {
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

    /// Publishes the login, then makes the roles with it. Many new tenants ask at once; the first does it.
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
                let entry = self.cell_entry(breaker, cell, open.id, &login, false);
                self.registry.perform_put(&Entry::Cell(entry.clone()), None).await?;
                entry
            }
        };
        let prefix = &breaker.database.settings().name_prefix;
        let slot = CellRoles::of(prefix, cell).slot_of(&entry.user).ok_or_else(|| {
            EffectError::new(ErrorClass::Conflict, format!("entry '{name}' names a login that is not the cell's"))
        })?;
        let login = CellLogin { slot, id: entry.login.map(|mark| mark.id), password: entry.password };
        open.changed(open.database.perform_create_cell(cell, &login, &open.fence).await)
    }

    /// A cell's entry as the settings and a login make it; `revokes`: the login before it ends at once.
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
            format: FORMAT,
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

/// The login that a cell's entry begins with: the first one; where the entry of a cell was lost, the one that is not in
/// use, so that whoever is logged in goes on.
async fn observe_free_login(open: &Open<'_>, cell: CellNumber) -> Result<LoginSlot, EffectError> {
    if !open.database.may_have_cell(cell) {
        return Ok(LoginSlot::A);
    }
    let known = open.done(open.database.observe_logins().await)?;
    Ok(known.iter().find(|facts| facts.cell == cell).map_or(LoginSlot::A, |facts| facts.active.other()))
}
