//! Dry run of a Tenant's steps: renders their requests to the API server and their SQL, and sends nothing.

use super::{TenantScope, live::LiveWorld};
use crate::effects::{error::EffectError, postgres::CellLogin};
use crate::{
    api::{TenantStatus, names},
    domain::{
        admin_api::{DryRunRequest, DryRunStep},
        class::ErrorClass,
        entry::{Entry, TenantEntry, cell_entry_name},
        ident::{CellNumber, LoginId, ObjectId, Uid, Version},
        keyring::Keyring,
        keys::KeyBytes,
        logins::LoginSlot,
    },
    plan::{
        dry_run::{REDACTED, render_sentence},
        observed::{Fresh, KeysView, ObservedTenant, Seen},
        step::{Adoption, CellStep, DatabaseStep, EntryStep, KeysStep, ObjectStep, Provision, TenantStep},
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Placeholder of the id of a new login, which is random.
const NEW_LOGIN: LoginId = LoginId(Uuid::nil());

impl LiveWorld {
    /// Renders a step. The result contains secrets, which [`Masks`] remove.
    ///
    /// # Errors
    /// When the database can't be changed now.
    pub fn render_step(&self, scope: &TenantScope, step: &TenantStep) -> Result<DryRunStep, EffectError> {
        let (requests, sql) = match step {
            TenantStep::Object(step) => (vec![render_object_request(&scope.object, step)], Vec::new()),
            TenantStep::Cell(CellStep::Create { cell, password }) => self.render_cell(scope, *cell, password)?,
            TenantStep::Database(step) => {
                let open = self.open_instance(scope)?;
                (Vec::new(), open.database.render(step, &scope.object, &open.writer)?)
            }
            TenantStep::Keys(step) => (vec![render_keys_request(scope, step)], Vec::new()),
            TenantStep::Entry(step) => (vec![self.render_entry_request(scope, step)?], Vec::new()),
        };
        Ok(DryRunStep { sentence: render_sentence(step), requests, sql })
    }

    /// The SQL has the placeholder of a new login, even if a login is already published.
    fn render_cell(
        &self,
        scope: &TenantScope,
        cell: CellNumber,
        password: &KeyBytes,
    ) -> Result<(Vec<DryRunRequest>, Vec<String>), EffectError> {
        let breaker = self.instance(scope)?;
        let (open, name) = (self.open(breaker)?, cell_entry_name(breaker.name(), cell));
        let login = CellLogin { slot: LoginSlot::A, id: Some(NEW_LOGIN), password: password.clone() };
        let mut requests = Vec::new();
        if !self.registry.holds(&name) {
            let entry = Entry::Cell(self.cell_entry(breaker, cell, open.writer.database_id, &login, false));
            requests.push(self.registry_request("create", name, render_entry(&entry)));
        }
        Ok((requests, vec![open.database.render_create_cell(cell, &login, &open.writer)?]))
    }

    fn render_entry_request(
        &self,
        scope: &TenantScope,
        step: &EntryStep<TenantEntry>,
    ) -> Result<DryRunRequest, EffectError> {
        match step {
            EntryStep::Put { entry, replace } => {
                let verb = if replace.is_some() { "update" } else { "create" };
                let content = render_entry(&Entry::Tenant(entry.clone()));
                Ok(self.registry_request(verb, entry.entry_name(), content))
            }
            EntryStep::Delete { uid, version } => {
                let nameless =
                    || EffectError::new(ErrorClass::Bug, "the Tenant has no tenant id, so its entry has no name");
                let name = self.registry.tenant_entry_name(scope.tenant_id.as_ref().ok_or_else(nameless)?);
                Ok(self.registry_request("delete", name, seen(uid, *version, json!({}))))
            }
        }
    }

    fn registry_request(&self, verb: &str, name: String, content: Value) -> DryRunRequest {
        let namespace = self.registry.namespace().to_owned();
        DryRunRequest { verb: verb.to_owned(), resource: "secrets".to_owned(), namespace, name, content }
    }
}

fn render_object_request(object: &ObjectId, step: &ObjectStep<TenantStatus>) -> DryRunRequest {
    match step {
        ObjectStep::AddFinalizer => tenant(object, "patch", "tenants", json!({ "add": names::TENANT_FINALIZER })),
        ObjectStep::RemoveFinalizer => tenant(object, "patch", "tenants", json!({ "remove": names::TENANT_FINALIZER })),
        ObjectStep::WriteStatus(status) => tenant(object, "patch", "tenants/status", json!({ "status": status })),
        ObjectStep::RecordEvent(notice) => {
            tenant(object, "create", "events", json!({ "reason": notice.reason.as_str(), "note": notice.note }))
        }
    }
}

fn render_keys_request(scope: &TenantScope, step: &KeysStep) -> DryRunRequest {
    match step {
        KeysStep::Create { keyring } => secret(scope, "create", render_keys(keyring)),
        KeysStep::Replace { keyring, uid, version, .. } => {
            secret(scope, "update", seen(uid, *version, render_keys(keyring)))
        }
        KeysStep::Delete { uid, version } => secret(scope, "delete", seen(uid, *version, json!({}))),
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

/// Adds the preconditions: the request fails if the observed object has changed.
fn seen(uid: &Uid, version: Version, mut content: Value) -> Value {
    content["preconditions"] = json!({ "uid": uid, "resourceVersion": version.to_string() });
    content
}

/// The Secret with a keyring: ids and states of the keys.
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
        names::KEYRING: { "version": keyring.version(), "keys": keys },
    } })
}

/// An entry as JSON, without symmetric keys, passwords and API keys.
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
        // Public keys are shown. Keys of unknown algorithms are not.
        if !matches!(key["algorithm"].as_str(), Some("EdDSA" | "ES256")) {
            key["key"] = json!(REDACTED);
        }
    }
    shown
}

/// Secrets and random values, and the placeholders that are shown instead.
pub struct Masks(Vec<(Zeroizing<String>, &'static str)>);

impl Masks {
    /// Masks for an observation, and for the steps that were planned from it.
    pub fn new(observed: Option<&ObservedTenant>, steps: &[TenantStep]) -> Self {
        let mut masks = Self(vec![(Zeroizing::new(NEW_LOGIN.to_string()), "<new login>")]);
        if let Some(observed) = observed {
            masks.hide_fresh(&observed.fresh);
            if let Seen::Ours(KeysView { keyring: Ok(keyring), .. }) = &observed.keys {
                keyring.keys().iter().filter_map(|key| key.signing_bytes()).for_each(|bytes| masks.hide(bytes));
            }
        }
        for step in steps {
            if let TenantStep::Database(
                DatabaseStep::Provision(Provision { keyring, .. }) | DatabaseStep::Adopt(Adoption { keyring, .. }),
            ) = step
            {
                masks.0.push((Zeroizing::new(keyring.digest.clone()), "<digest of the new keyring>"));
            }
        }
        masks
    }

    /// Replaces each value by its placeholder.
    pub fn apply(&self, mut text: String) -> String {
        for (found, shown) in &self.0 {
            text = text.replace(found.as_str(), shown);
        }
        text
    }

    fn hide(&mut self, secret: &KeyBytes) {
        let plain = std::str::from_utf8(secret.expose()).ok().filter(|text| text.len() >= 16).map(str::to_owned);
        let texts = [Some(BASE64_STANDARD.encode(secret.expose())), plain];
        self.0.extend(texts.into_iter().flatten().map(|text| (Zeroizing::new(text), REDACTED)));
    }

    fn hide_fresh(&mut self, fresh: &Fresh) {
        self.hide(&fresh.password);
        if fresh.key.algorithm.is_symmetric() {
            self.hide(&fresh.key.verifying);
        } else {
            let public = BASE64_STANDARD.encode(fresh.key.verifying.expose());
            self.0.push((Zeroizing::new(public), "<new public key>"));
        }
        fresh.key.private.iter().for_each(|private| self.hide(private));
        let drawn = [(fresh.incarnation.to_string(), "<new incarnation>"), (fresh.key.kid.to_string(), "<new kid>")];
        self.0.extend(drawn.map(|(found, shown)| (Zeroizing::new(found), shown)));
    }
}
