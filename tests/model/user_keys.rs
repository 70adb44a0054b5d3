//! What people do to signing keys: ask for rotations and revocations, lose, edit, copy and put back Secrets.

use super::{
    secrets,
    state::{Key, State},
    user::key,
};
use agent_tenancy::{
    api::names,
    domain::{entry::Entry, ident::Uid},
};
use std::collections::BTreeSet;

fn secret_key(tenant: &Key) -> Key {
    key(&tenant.0, &format!("{}-signing-keys", tenant.1))
}

impl State {
    /// `kubectl annotate`.
    pub fn annotate(&mut self, tenant: &Key, name: &str, value: String) {
        let version = self.bump().to_string();
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value);
            tenant.metadata.resource_version = Some(version);
        }
    }

    pub fn ask_rotation(&mut self, tenant: &Key) {
        let value = format!("request-{}", self.id());
        self.annotate(tenant, names::ROTATE_ANNOTATION, value);
    }

    /// Revokes the key that signs.
    pub fn ask_revocation(&mut self, tenant: &Key) {
        let uid = self.tenants.get(tenant).and_then(|t| t.metadata.uid.clone()).map(Uid);
        if let Some(kid) = uid.and_then(|uid| self.kids.get(&uid).cloned()) {
            self.annotate(tenant, names::REVOKE_ANNOTATION, kid.to_string());
        }
    }

    pub fn hand_delete_keys(&mut self, tenant: &Key) {
        self.secrets.remove(&secret_key(tenant));
        self.forget_lost_kids();
    }

    /// Deletes the damaged Secrets that no entry can restore, as their Tenants' status says.
    pub fn delete_hopeless_keys(&mut self) {
        let published: BTreeSet<Uid> = self
            .registry
            .values()
            .filter_map(|s| match &s.entry {
                Some(Entry::Tenant(entry)) => Some(entry.uid.clone()),
                _ => None,
            })
            .collect();
        self.secrets.retain(|_, s| !s.data.is_empty() || s.owner.as_ref().is_some_and(|o| published.contains(o)));
        self.forget_lost_kids();
    }

    /// Swaps bytes of every key so that the Secret still fits together.
    pub fn hand_edit_keys(&mut self, tenant: &Key) {
        let version = self.bump();
        let Some(secret) = self.secrets.get_mut(&secret_key(tenant)) else { return };
        for value in secret.data.values_mut() {
            let text = String::from_utf8_lossy(value).replace("kid-", "kid-evil-");
            *value = text.into_bytes();
        }
        secret.version = version;
        self.forget_lost_kids();
    }

    pub fn hand_damage_keys(&mut self, tenant: &Key) {
        let version = self.bump();
        let Some(secret) = self.secrets.get_mut(&secret_key(tenant)) else { return };
        secret.data.clear();
        secret.version = version;
        self.forget_lost_kids();
    }

    /// A backup of the Secret, as a user's tool makes it.
    pub fn copy_keys(&mut self, tenant: &Key) {
        if let Some(secret) = self.secrets.get(&secret_key(tenant)) {
            self.backups.insert(tenant.clone(), secret.data.clone());
        }
    }

    /// The backup is put back over what is there.
    pub fn put_keys_back(&mut self, tenant: &Key) {
        let version = self.bump();
        let Some(data) = self.backups.get(tenant).cloned() else { return };
        let Some(secret) = self.secrets.get_mut(&secret_key(tenant)) else { return };
        (secret.data, secret.version) = (data, version);
        self.forget_lost_kids();
    }

    /// Every place of a key gone: then a new one is right.
    pub fn forget_lost_kids(&mut self) {
        let kids = self.kids.clone();
        for (uid, kid) in kids {
            let in_secret = self.secrets.values().filter(|s| s.owner.as_ref() == Some(&uid));
            let in_secret = in_secret
                .filter_map(secrets::parse)
                .any(|keyring| keyring.keys().iter().any(|k| k.verifying.kid == kid));
            let in_entry = self.registry.values().any(|s| match &s.entry {
                Some(Entry::Tenant(e)) => e.uid == uid && e.keys.iter().any(|k| k.kid == kid),
                _ => false,
            });
            if !in_secret && !in_entry {
                self.kids.remove(&uid);
            }
        }
    }
}
