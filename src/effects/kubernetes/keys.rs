//! Signing Secrets in the Tenants' namespaces. They are read one by one; the operator lists no Secrets there.

use super::{
    error::{bounded, required, unless_taken},
    fence::LeaseFence,
    watch::version_of,
};
use crate::{
    api::names,
    domain::{
        class::ErrorClass,
        ident::{ObjectId, Uid, Version},
        keyring::Keyring,
    },
    effects::error::EffectError,
    plan::{
        observed::{KeysView, ReadError, Seen},
        step::Done,
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use std::collections::BTreeMap;

/// The signing Secrets.
#[derive(Clone)]
pub struct KeySecrets {
    client: Client,
    fence: LeaseFence,
}

impl KeySecrets {
    /// Secrets behind this client.
    pub fn new(client: Client, fence: LeaseFence) -> Self {
        Self { client, fence }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Looks at the signing Secret of a Tenant.
    pub async fn observe(&self, owner: &ObjectId, name: &str) -> Seen<KeysView> {
        match bounded("read the signing Secret", self.api(&owner.namespace).get(name)).await {
            Ok(None) => Seen::Missing,
            Ok(Some(secret)) => view(&secret, owner, name),
            Err(error) => Seen::Unknown(ReadError { class: error.class, note: error.chain() }),
        }
    }

    /// Creates the signing Secret, marked as the Tenant's. One that is there already is left alone: the next pass reads it.
    ///
    /// # Errors
    /// As any request; `Transient` if a Secret of that name exists.
    pub async fn perform_create(&self, owner: &ObjectId, name: &str, keyring: &Keyring) -> Result<Done, EffectError> {
        self.fence.check()?;
        let secret = secret(owner, name, keyring);
        let api = self.api(&owner.namespace);
        match unless_taken("create the signing Secret", api.create(&PostParams::default(), &secret)).await? {
            Some(_) => Ok(Done::Plain),
            None => Err(EffectError::new(ErrorClass::Transient, format!("Secret '{name}' appeared meanwhile"))),
        }
    }

    /// Replaces the content of the signing Secret that was seen.
    ///
    /// # Errors
    /// As any request; `Transient` if it changed since it was seen.
    pub async fn perform_replace(
        &self,
        owner: &ObjectId,
        name: &str,
        keyring: &Keyring,
        (uid, version): (&Uid, Version),
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let mut secret = secret(owner, name, keyring);
        secret.metadata.uid = Some(uid.0.clone());
        secret.metadata.resource_version = Some(version.to_string());
        let api = self.api(&owner.namespace);
        required("replace the signing Secret", api.replace(name, &PostParams::default(), &secret)).await?;
        Ok(Done::Plain)
    }

    /// Deletes the signing Secret that was seen. One that is gone counts as done.
    ///
    /// # Errors
    /// As any request; `Transient` if it changed since it was seen.
    pub async fn perform_delete(
        &self,
        owner: &ObjectId,
        name: &str,
        uid: &Uid,
        version: Version,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let params = preconditions(uid, version);
        bounded("delete the signing Secret", self.api(&owner.namespace).delete(name, &params)).await?;
        Ok(Done::Plain)
    }
}

/// The signing Secret, marked as the Tenant's.
fn secret(owner: &ObjectId, name: &str, keyring: &Keyring) -> Secret {
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "agent-tenancy".to_owned()),
        (names::TENANT_UID_LABEL.to_owned(), owner.uid.0.clone()),
    ]);
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        data: Some(keyring.render_secret().into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// Deletion of exactly the object that was seen.
pub fn preconditions(uid: &Uid, version: Version) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.0.clone()), resource_version: Some(version.to_string()) }),
        ..DeleteParams::default()
    }
}

fn view(secret: &Secret, owner: &ObjectId, name: &str) -> Seen<KeysView> {
    let mark = secret.metadata.labels.as_ref().and_then(|l| l.get(names::TENANT_UID_LABEL));
    if mark != Some(&owner.uid.0) {
        return Seen::Foreign(format!(
            "Secret '{name}' exists and is not marked as this Tenant's; rename or delete it"
        ));
    }
    let data = secret.data.as_ref();
    Seen::Ours(KeysView {
        uid: Uid(secret.metadata.uid.clone().unwrap_or_default()),
        version: version_of(secret),
        keyring: Keyring::parse_secret(|key| data.and_then(|d| d.get(key)).map(|bytes| bytes.0.as_slice())),
    })
}
