//! `World<TenantScope>` over the model.

use super::{
    archives, database, drift, objects,
    operator::{Operator, Part},
    registry, secrets,
    state::{CANARY, INSTANCE, State, transient},
};
use agent_tenancy::{
    api::{TenantStatus, names},
    controller::reconcile::tenant::{resolve_claimant, tenant_id},
    domain::{
        entry::{CellEntry, Entry, FIRST_FORMAT, agent_entry_name, cell_entry_name},
        ident::{CellNumber, Incarnation, ObjectId, Uid},
        keyring::{Keyring, NewKey},
        keys::{Algorithm, HS256_KEY_BYTES, KeyBytes, Kid},
        resolve::{AgentLookup, resolve_claim},
    },
    effects::{
        error::EffectError,
        world::{TenantScope, World},
    },
    plan::{
        acks::unacknowledged_speakers,
        observed::{DatabaseView, EntryView, Fresh, KeysView, ObservedTenant, Presence, ReadError, Seen},
        step::{CellStep, DatabaseStep, Done, EntryStep, KeysStep, ObjectStep, TenantStep},
    },
};
use uuid::Uuid;

impl World<TenantScope> for Operator {
    fn observe_first(&self, scope: &TenantScope) -> Seen<EntryView> {
        let state = self.state();
        let old = self.view(Part::Entry);
        observe_entry(old.as_deref().unwrap_or(&*state), scope)
    }

    async fn observe(&self, scope: &TenantScope) -> ObservedTenant {
        let mut state = self.state();
        let fresh = fresh(&mut state, scope.algorithm);
        let now = &*state;
        let old = Part::ALL.map(|part| (part, self.view(part)));
        let part = |part| old.iter().find(|(p, _)| *p == part).and_then(|(_, v)| v.as_deref()).unwrap_or(now);
        let view = match &scope.tenant_id {
            Some(id) => database::observe(part(Part::Database), id, scope),
            None => {
                DatabaseView::Unknown(ReadError::new(agent_tenancy::domain::class::ErrorClass::Invalid, "no valid id"))
            }
        };
        let cell = match &view {
            DatabaseView::Facts(facts) => facts.cell(scope.adopt.as_ref()),
            DatabaseView::Unknown(_) | DatabaseView::Changed { .. } | DatabaseView::Unplaced(_) => None,
        };
        ObservedTenant {
            object: presence(scope.vanished, now.live_tenant(&scope.object.uid).is_some()),
            finalizer: scope.finalizers.iter().any(|f| f == names::TENANT_FINALIZER),
            rival: rival(part(Part::TenantIdClaims), scope),
            recorded: scope.recorded.clone(),
            instance: Some(INSTANCE.to_owned()),
            database: view,
            keys: observe_keys(now, scope),
            entry: observe_entry(part(Part::Entry), scope),
            agents: scope.agents.iter().map(|(n, c)| (n.clone(), look_up(part(Part::Agents), scope, c))).collect(),
            cell_entry: cell.is_some_and(|c| registry::holds(now, &cell_entry_name(INSTANCE, c))),
            replicas: part(Part::Replicas).replicas(),
            admitted: now.rolling,
            fresh,
        }
    }

    async fn perform(&self, scope: &TenantScope, step: &TenantStep) -> Result<Done, EffectError> {
        let object = &scope.object;
        {
            let mut state = self.state();
            objects::check_canary(&mut state, step);
            let outside = !matches!(step, TenantStep::Object(_));
            if outside && state.leader == self.epoch && !self.is_dead() {
                objects::check_finalizer(&mut state, object, step);
            }
        }
        match step {
            TenantStep::Object(step) => self.perform_object_step(scope, step),
            TenantStep::Database(step) => self.perform_database_step(scope, step),
            TenantStep::Keys(step) => self.perform_keys_step(scope, step),
            TenantStep::Cell(CellStep::Create { cell, password }) => self.create_cell(*cell, password),
            TenantStep::Entry(EntryStep::Put { entry, replace }) => {
                self.effect(|s| registry::put(s, Entry::Tenant(entry.clone()), Some(object.uid.clone()), *replace))
            }
            TenantStep::Entry(EntryStep::Delete { uid, version }) => self.effect(|s| match &scope.tenant_id {
                Some(id) => registry::delete(s, &id.entry_name(), Some(uid), *version),
                None => Ok(Done::Plain),
            }),
        }
    }
}

impl Operator {
    fn perform_object_step(&self, scope: &TenantScope, step: &ObjectStep<TenantStatus>) -> Result<Done, EffectError> {
        let object = &scope.object;
        match step {
            ObjectStep::AddFinalizer => self.effect(|s| {
                self.check_version(s, object)?;
                objects::add_finalizer(s, object, objects::TENANT_FINALIZER)
            }),
            ObjectStep::RemoveFinalizer => self.effect(|s| {
                let left = scope.tenant_id.as_ref().and_then(|id| s.registry.get(&id.entry_name()));
                if left.is_some_and(|e| e.owner.as_ref() == Some(&object.uid)) {
                    return Err(transient("the entry is there"));
                }
                self.check_version(s, object)?;
                objects::remove_finalizer(s, object)
            }),
            ObjectStep::WriteStatus(status) => self.effect(|s| {
                self.check_version(s, object)?;
                objects::check_canary(s, status);
                let key = (object.namespace.clone(), object.name.clone());
                let found = s.tenants.get(&key).filter(|t| t.metadata.uid.as_deref() == Some(&object.uid.0));
                let Some(tenant) = found else { return Err(transient("the object is gone")) };
                let before = tenant.status.clone().unwrap_or_default();
                let generations =
                    objects::Generations { observed: status.observed_generation, object: tenant.metadata.generation };
                let parts = ["Accepted", "DatabaseReady", "SigningKeysReady", "Published", "Served"];
                objects::check_conditions(s, &object.uid, &parts, generations, &before.conditions, &status.conditions);
                let version = s.bump().to_string();
                if let Some(tenant) = s.tenants.get_mut(&key) {
                    // As it comes back from the API server.
                    tenant.status = serde_json::to_value(status).ok().and_then(|v| serde_json::from_value(v).ok());
                    tenant.metadata.resource_version = Some(version);
                }
                s.wrote();
                Ok(Done::Plain)
            }),
            ObjectStep::RecordEvent(notice) => self.effect(|s| Ok(objects::record(s, object, notice))),
        }
    }

    fn perform_database_step(&self, scope: &TenantScope, step: &DatabaseStep) -> Result<Done, EffectError> {
        let object = &scope.object;
        match step {
            DatabaseStep::Provision(wanted) => {
                if !self.is_dead() {
                    self.state().sent.push((wanted.clone(), object.clone()));
                }
                self.database_effect(|s| database::provision(s, wanted, object))
            }
            DatabaseStep::Adopt(wanted) => {
                if !self.is_dead() {
                    self.state().sent_adoptions.push((wanted.clone(), object.clone()));
                }
                self.database_effect(|s| archives::adopt(s, wanted, object))
            }
            DatabaseStep::Migrate(step) => self.database_effect(|s| database::migrate(s, step)),
            DatabaseStep::PreventAdoption { row } => self.database_effect(|s| archives::prevent(s, row)),
            DatabaseStep::Repair { row, found } => self.database_effect(|s| database::repair(s, row, found)),
            DatabaseStep::SetAside { tenant_id, name, remains } => {
                self.database_effect(|s| drift::set_aside(s, tenant_id, name, remains))
            }
            DatabaseStep::RecordKeyring { row, mark } => self.database_effect(|s| database::record_ring(s, row, mark)),
            DatabaseStep::SuspendAccess { row } => {
                self.database_effect(|s| database::suspend(s, &scope.tenant_id, row))
            }
            DatabaseStep::ResumeAccess { row } => self.database_effect(|s| database::resume(s, row)),
            DatabaseStep::RevokeAccess { row } => self.database_effect(|s| match &scope.tenant_id {
                Some(id) => database::revoke(s, id, row),
                None => Err(transient("no id")),
            }),
            DatabaseStep::Close(wanted) => self.database_effect(|s| database::close(s, wanted, object)),
        }
    }

    fn perform_keys_step(&self, scope: &TenantScope, step: &KeysStep) -> Result<Done, EffectError> {
        let object = &scope.object;
        match step {
            KeysStep::Create { keyring } => self.effect(|s| secrets::create(s, scope, keyring)),
            KeysStep::Replace { keyring, uid, version, acknowledged, .. } => self.effect(|s| {
                let missing =
                    acknowledged.map(|entry| unacknowledged_speakers(entry, &s.replicas())).unwrap_or_default();
                if !missing.is_empty() {
                    return Err(transient(format!("{missing:?} do not know the new key")));
                }
                secrets::replace(s, scope, keyring, uid, *version)
            }),
            KeysStep::Delete { uid, version } => self.effect(|s| {
                let name = (object.namespace.clone(), scope.key_secret.clone());
                match s.secrets.get(&name) {
                    Some(found) if found.uid == *uid && found.version == *version => {
                        s.secrets.remove(&name);
                        s.wrote();
                        Ok(Done::Plain)
                    }
                    Some(_) => Err(transient("the Secret changed")),
                    None => Ok(Done::Plain),
                }
            }),
        }
    }

    /// Two effects: the login's entry, then the roles.
    fn create_cell(&self, cell: CellNumber, password: &KeyBytes) -> Result<Done, EffectError> {
        let name = cell_entry_name(INSTANCE, cell);
        let published = |s: &State| match s.registry.get(&name).and_then(|e| e.entry.clone()) {
            Some(Entry::Cell(entry)) => Some(entry.password.clone()),
            _ => None,
        };
        if published(&self.state()).is_none() {
            self.effect(|s| {
                if super::database::changed(s).is_some() {
                    return Err(transient("it is another database"));
                }
                let entry = CellEntry {
                    format: FIRST_FORMAT,
                    instance: INSTANCE.to_owned(),
                    database_id: s.database.id,
                    cell,
                    host: "db.example".to_owned(),
                    port: 5432,
                    database: "agents".to_owned(),
                    ssl_mode: "require".to_owned(),
                    user: format!("login_{cell}"),
                    password: password.clone(),
                    login: None,
                };
                registry::put(s, Entry::Cell(entry), None, None)
            })?;
        }
        self.database_effect(|s| {
            let password = published(s).ok_or_else(|| transient("the cell's entry is gone"))?;
            Ok(database::create_cell(s, cell, &password))
        })
    }
}

/// Whether an object that is taken for gone is; asked of the present, however old the view is.
pub fn presence(vanished: bool, there: bool) -> Presence {
    match (vanished, there) {
        (false, _) => Presence::Cached,
        (true, true) => Presence::Alive,
        (true, false) => Presence::Gone,
    }
}

fn fresh(state: &mut State, algorithm: Algorithm) -> Fresh {
    let n = state.id();
    let mut key = format!("{CANARY}-KEY-{n}-").into_bytes();
    key.resize(HS256_KEY_BYTES, b'x');
    let private = (!algorithm.is_symmetric()).then(|| KeyBytes::new(format!("{CANARY}-PRIVATE-{n}").into_bytes()));
    let kid = Kid::parse(&format!("kid-{n}")).unwrap();
    let mut verifying = KeyBytes::new(key);
    if algorithm == Algorithm::EdDSA {
        verifying = KeyBytes::new(format!("{n:032}").into_bytes());
    } else if algorithm == Algorithm::ES256 {
        verifying = KeyBytes::new([vec![4], format!("{n:064}").into_bytes()].concat());
    }
    Fresh {
        incarnation: Incarnation(Uuid::from_u128(n)),
        key: NewKey { kid, algorithm, verifying, private },
        password: KeyBytes::new(format!("{CANARY}-PW-{n}").into_bytes()),
    }
}

fn rival(state: &State, scope: &TenantScope) -> Option<ObjectId> {
    let id = scope.tenant_id.as_ref()?;
    let claims = state.tenants.values().filter(|t| tenant_id(t).as_ref() == Some(id)).map(resolve_claimant);
    resolve_claim(claims).map(|c| c.object).filter(|winner| *winner != scope.object)
}

fn look_up(state: &State, scope: &TenantScope, config: &str) -> AgentLookup {
    let Some(agent) = state.agents.get(&(scope.object.namespace.clone(), config.to_owned())) else {
        return AgentLookup::Missing;
    };
    let uid = Uid(agent.metadata.uid.clone().unwrap_or_default());
    if agent.metadata.deletion_timestamp.is_some() {
        return AgentLookup::Leaving(uid);
    }
    let published = registry::holds(state, &agent_entry_name(&uid));
    if published { AgentLookup::Published(uid) } else { AgentLookup::Unpublished(uid) }
}

fn observe_keys(state: &State, scope: &TenantScope) -> Seen<KeysView> {
    let name = (scope.object.namespace.clone(), scope.key_secret.clone());
    match state.secrets.get(&name) {
        None => Seen::Missing,
        Some(secret) if secret.owner.as_ref() != Some(&scope.object.uid) => Seen::Foreign("not ours".to_owned()),
        Some(secret) => Seen::Ours(KeysView {
            uid: secret.uid.clone(),
            version: secret.version,
            keyring: Keyring::parse_secret(|key| secret.data.get(key).map(Vec::as_slice)),
        }),
    }
}

fn observe_entry(state: &State, scope: &TenantScope) -> Seen<EntryView> {
    let Some(id) = &scope.tenant_id else { return Seen::Missing };
    let Some(secret) = state.registry.get(&id.entry_name()) else { return Seen::Missing };
    let entry = match &secret.entry {
        Some(Entry::Tenant(entry)) => Some(entry.as_ref().clone()),
        _ => None,
    };
    let owner = entry.as_ref().map(|e| &e.uid).or(secret.owner.as_ref());
    if owner != Some(&scope.object.uid) {
        return Seen::Foreign("the registry gives this id to another Tenant".to_owned());
    }
    Seen::Ours(EntryView { secret_uid: secret.uid.clone(), version: secret.version, entry })
}
