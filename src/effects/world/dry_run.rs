//! The world as it is, in which nothing is done: reads are real, each step is told as the requests and statements that
//! it would send, and counts as done.

use super::{TenantScope, World, live::LiveWorld};
use crate::effects::{entropy::draw_login_id, error::EffectError, postgres::CellLogin};
use crate::{
    api::{TenantStatus, names},
    domain::{
        class::ErrorClass,
        entry::{Entry, cell_entry_name},
        ident::{CellNumber, LoginId, ObjectId, Uid, Version},
        keyring::Keyring,
        keys::KeyBytes,
        logins::LoginSlot,
    },
    plan::{
        dry_run::{DryRunRequest, DryRunStep, REDACTED, render_sentence},
        observed::{Fresh, KeysView, ObservedTenant, Seen},
        step::{Done, TenantStep},
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// See the file's description. For one pass of one Tenant.
pub struct DryRunWorld {
    /// Its database keeps changes instead of sending them.
    live: LiveWorld,
    /// Names the password of a new cell.
    login_id: LoginId,
    told: Mutex<Recording>,
}

/// What was told in a rehearsal.
#[derive(Default)]
pub struct Recording {
    /// The steps, in order.
    pub steps: Vec<DryRunStep>,
    /// The status that would be written.
    pub status: Option<TenantStatus>,
    /// What has another value each time, or is a secret, and what is shown instead.
    masks: Vec<(Zeroizing<String>, &'static str)>,
}

impl Recording {
    /// Puts `<…>` in place of what is drawn anew for each pass, and of every secret that was seen.
    pub fn mask(&self, mut text: String) -> String {
        for (found, shown) in &self.masks {
            text = text.replace(found.as_str(), shown);
        }
        text
    }

    fn hide(&mut self, secret: &KeyBytes) {
        let plain = std::str::from_utf8(secret.expose()).ok().filter(|text| text.len() >= 16).map(str::to_owned);
        let texts = [Some(BASE64_STANDARD.encode(secret.expose())), plain];
        self.masks.extend(texts.into_iter().flatten().map(|text| (Zeroizing::new(text), REDACTED)));
    }

    fn note_fresh(&mut self, fresh: &Fresh) {
        self.hide(&fresh.password);
        if fresh.key.algorithm.is_symmetric() {
            self.hide(&fresh.key.verifying);
        } else {
            let public = BASE64_STANDARD.encode(fresh.key.verifying.expose());
            self.masks.push((Zeroizing::new(public), "<new public key>"));
        }
        fresh.key.private.iter().for_each(|private| self.hide(private));
        let drawn = [(fresh.incarnation.to_string(), "<new incarnation>"), (fresh.key.kid.to_string(), "<new kid>")];
        self.masks.extend(drawn.map(|(found, shown)| (Zeroizing::new(found), shown)));
    }

    fn note_keyring(&mut self, keyring: &Keyring) {
        keyring.keys().iter().filter_map(|key| key.signing_bytes()).for_each(|bytes| self.hide(bytes));
    }
}

impl LiveWorld {
    /// A rehearsal in this world.
    pub fn for_dry_run(&self) -> DryRunWorld {
        let mut live = self.clone();
        live.instances = live.instances.for_dry_run();
        let login_id = draw_login_id();
        let told =
            Recording { masks: vec![(Zeroizing::new(login_id.to_string()), "<new login>")], ..Recording::default() };
        DryRunWorld { live, login_id, told: Mutex::new(told) }
    }
}

impl World<TenantScope> for DryRunWorld {
    async fn observe(&self, scope: &TenantScope) -> ObservedTenant {
        let observed = self.live.observe(scope).await;
        let mut told = self.told();
        told.note_fresh(&observed.fresh);
        if let Seen::Ours(KeysView { keyring: Ok(keyring), .. }) = &observed.keys {
            told.note_keyring(keyring);
        }
        observed
    }

    async fn perform(&self, scope: &TenantScope, step: &TenantStep) -> Result<Done, EffectError> {
        let requests = self.resolve_requests(scope, step)?;
        match step {
            TenantStep::CreateCell { cell, password } => self.keep_cell(scope, *cell, password).await?,
            // Each is one transaction and nothing else; the database in this world keeps it.
            TenantStep::Provision(_)
            | TenantStep::Adopt(_)
            | TenantStep::PreventAdoption { .. }
            | TenantStep::RepairDatabase { .. }
            | TenantStep::Migrate(_)
            | TenantStep::SetAside { .. }
            | TenantStep::RecordKeyring { .. }
            | TenantStep::SuspendAccess { .. }
            | TenantStep::ResumeAccess { .. }
            | TenantStep::RevokeAccess { .. }
            | TenantStep::CloseDatabase(_) => {
                self.live.perform(scope, step).await?;
            }
            TenantStep::AddFinalizer
            | TenantStep::CreateKeys { .. }
            | TenantStep::ReplaceKeys { .. }
            | TenantStep::PutEntry { .. }
            | TenantStep::DeleteEntry { .. }
            | TenantStep::DeleteKeys { .. }
            | TenantStep::RemoveFinalizer
            | TenantStep::WriteStatus(_)
            | TenantStep::RecordEvent(_) => {}
        }
        let home = scope.home.as_deref().and_then(|name| self.live.instances.breaker(name));
        let sql = home.map(|breaker| breaker.database.take_unsent()).unwrap_or_default();
        let mut told = self.told();
        if let TenantStep::WriteStatus(status) = step {
            told.status = Some(status.as_ref().clone());
        }
        let keyring = match step {
            TenantStep::Provision(provision) => Some(&provision.keyring),
            TenantStep::Adopt(adoption) => Some(&adoption.keyring),
            _ => None,
        };
        let digest = keyring.map(|keyring| Zeroizing::new(keyring.digest.clone()));
        told.masks.extend(digest.map(|digest| (digest, "<digest of the new keyring>")));
        told.steps.push(DryRunStep { sentence: render_sentence(step), requests, sql });
        // Which version an entry would have is not known; that one is awaited is.
        let written = matches!(step, TenantStep::PutEntry { .. });
        Ok(if written { Done::At(Version::default()) } else { Done::Plain })
    }
}

impl DryRunWorld {
    fn told(&self) -> MutexGuard<'_, Recording> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told.
    pub fn into_told(self) -> Recording {
        self.told.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The roles of a cell, with a password that was drawn for this rehearsal, also where a login is published already.
    async fn keep_cell(&self, scope: &TenantScope, cell: CellNumber, password: &KeyBytes) -> Result<(), EffectError> {
        let open = self.live.open_home(scope)?;
        Ok(open.database.perform_create_cell(cell, &self.login(password), &open.fence).await?)
    }

    /// The login of a new cell.
    fn login(&self, password: &KeyBytes) -> CellLogin {
        CellLogin { slot: LoginSlot::A, id: Some(self.login_id), password: password.clone() }
    }

    /// What a step asks of the API server.
    fn resolve_requests(&self, scope: &TenantScope, step: &TenantStep) -> Result<Vec<DryRunRequest>, EffectError> {
        let object = &scope.object;
        let request = match step {
            TenantStep::AddFinalizer => tenant(object, "patch", "tenants", json!({ "add": names::TENANT_FINALIZER })),
            TenantStep::RemoveFinalizer => {
                tenant(object, "patch", "tenants", json!({ "remove": names::TENANT_FINALIZER }))
            }
            TenantStep::WriteStatus(status) => tenant(object, "patch", "tenants/status", json!({ "status": status })),
            TenantStep::RecordEvent(notice) => {
                tenant(object, "create", "events", json!({ "reason": notice.reason.as_str(), "note": notice.note }))
            }
            TenantStep::CreateKeys { keyring } => secret(scope, "create", render_keys(keyring)),
            TenantStep::ReplaceKeys { keyring, uid, version, .. } => {
                secret(scope, "update", seen(uid, *version, render_keys(keyring)))
            }
            TenantStep::DeleteKeys { uid, version } => secret(scope, "delete", seen(uid, *version, json!({}))),
            TenantStep::PutEntry { entry, replace } => {
                let verb = if replace.is_some() { "update" } else { "create" };
                self.entry(verb, entry.tenant_id.entry_name(), render_entry(&Entry::Tenant(entry.clone())))
            }
            TenantStep::DeleteEntry { uid, version } => {
                let name = scope.tenant_id.as_ref().map(|id| id.entry_name()).unwrap_or_default();
                self.entry("delete", name, seen(uid, *version, json!({})))
            }
            TenantStep::CreateCell { cell, password } => {
                let home = self.live.home(scope)?;
                let name = cell_entry_name(home.name(), *cell);
                if self.live.registry.holds(&name) {
                    return Ok(Vec::new());
                }
                let id = self.live.open(home)?.id;
                let entry = Entry::Cell(self.live.cell_entry(home, *cell, id, &self.login(password), false));
                self.entry("create", name, render_entry(&entry))
            }
            TenantStep::Provision(_)
            | TenantStep::Adopt(_)
            | TenantStep::PreventAdoption { .. }
            | TenantStep::RepairDatabase { .. }
            | TenantStep::Migrate(_)
            | TenantStep::SetAside { .. }
            | TenantStep::RecordKeyring { .. }
            | TenantStep::SuspendAccess { .. }
            | TenantStep::ResumeAccess { .. }
            | TenantStep::RevokeAccess { .. }
            | TenantStep::CloseDatabase(_) => return Ok(Vec::new()),
        };
        if request.name.is_empty() {
            return Err(EffectError::new(ErrorClass::Bug, "a step on an entry without a name"));
        }
        Ok(vec![request])
    }

    fn entry(&self, verb: &str, name: String, content: Value) -> DryRunRequest {
        let namespace = self.live.registry.namespace().to_owned();
        DryRunRequest { verb: verb.to_owned(), resource: "secrets".to_owned(), namespace, name, content }
    }
}

fn tenant(object: &ObjectId, verb: &str, resource: &str, content: Value) -> DryRunRequest {
    let (namespace, name) = (object.namespace.clone(), object.name.clone());
    DryRunRequest { verb: verb.to_owned(), resource: resource.to_owned(), namespace, name, content }
}

fn secret(scope: &TenantScope, verb: &str, content: Value) -> DryRunRequest {
    let (namespace, name) = (scope.object.namespace.clone(), scope.key_secret.clone());
    DryRunRequest { verb: verb.to_owned(), resource: "secrets".to_owned(), namespace, name, content }
}

/// Exactly the object that was seen.
fn seen(uid: &Uid, version: Version, mut content: Value) -> Value {
    content["preconditions"] = json!({ "uid": uid, "resourceVersion": version.to_string() });
    content
}

/// The Secret with a keyring: its ids and states.
fn render_keys(keyring: &Keyring) -> Value {
    let keys: Vec<Value> = keyring
        .keys()
        .iter()
        .map(|key| {
            let key = &key.verifying;
            json!({ "kid": key.kid, "algorithm": key.algorithm, "state": key.state, "key": REDACTED })
        })
        .collect();
    let current = keyring.current().map(|key| &key.verifying);
    json!({ "data": {
        names::CURRENT_KID: current.map(|key| &key.kid),
        names::CURRENT_ALG: current.map(|key| key.algorithm.as_str()),
        names::CURRENT_KEY: REDACTED,
        names::RING: { "version": keyring.version(), "keys": keys },
    } })
}

/// An entry's document without its secrets: symmetric keys, passwords, API keys.
fn render_entry(entry: &Entry) -> Value {
    let document = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
    let mut shown = match entry {
        Entry::Tenant(entry) => document(serde_json::to_value(entry)),
        Entry::Agent(entry) => document(serde_json::to_value(entry)),
        Entry::Upstream(entry) => document(serde_json::to_value(entry)),
        Entry::Cell(entry) => document(serde_json::to_value(entry)),
    };
    for secret in ["password", "apiKey"] {
        if shown.get(secret).is_some() {
            shown[secret] = json!(REDACTED);
        }
    }
    for key in shown.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
        // Public keys are public; of an algorithm that nobody here knows nothing is shown.
        if !matches!(key["algorithm"].as_str(), Some("EdDSA" | "ES256")) {
            key["key"] = json!(REDACTED);
        }
    }
    shown
}
