//! Signing Secrets in the Tenants' namespaces. They are read one by one; the operator does not list Secrets there.

use super::{
    error::{bounded, unless_changed},
    fence::LeaseFence,
    watch::version_of,
};
use crate::{
    api::names,
    domain::{
        ident::{ObjectId, Uid, Version},
        keyring::Keyring,
    },
    effects::error::EffectError,
    plan::{
        observed::{KeysView, Seen},
        step::Done,
    },
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use std::collections::BTreeMap;

/// UID and version of the object that was read: a write fails if either has changed.
#[derive(Clone, Copy, Debug)]
pub struct ObjectVersion<'a> {
    /// `metadata.uid`.
    pub(crate) uid: &'a Uid,
    /// `metadata.resourceVersion`.
    pub(crate) version: Version,
}

/// The signing Secrets.
#[derive(Clone)]
pub struct KeySecrets {
    client: Client,
    fence: LeaseFence,
}

impl KeySecrets {
    pub(crate) fn new(client: Client, fence: LeaseFence) -> Self {
        Self { client, fence }
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads the signing Secret of a Tenant.
    pub(crate) async fn observe(&self, owner: &ObjectId, name: &str) -> Seen<KeysView> {
        match bounded("read the signing Secret", self.api(&owner.namespace).get(name)).await {
            Ok(None) => Seen::Missing,
            Ok(Some(secret)) => view(&secret, owner, name),
            Err(error) => Seen::Unknown(error.read_error()),
        }
    }

    /// Creates the signing Secret with the Tenant's label. An existing one is not changed: the next reconcile reads it.
    ///
    /// # Errors
    /// As any request; `Transient` if a Secret of that name exists.
    pub(crate) async fn perform_create(
        &self,
        owner: &ObjectId,
        name: &str,
        keyring: &Keyring,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let secret = secret(owner, name, keyring);
        let api = self.api(&owner.namespace);
        let what = format!("create the signing Secret '{name}'");
        unless_changed(&what, api.create(&PostParams::default(), &secret)).await?;
        Ok(Done::Plain)
    }

    /// Replaces the content of the signing Secret that was read.
    ///
    /// # Errors
    /// As any request; `Transient` if it changed since.
    pub(crate) async fn perform_replace(
        &self,
        owner: &ObjectId,
        name: &str,
        keyring: &Keyring,
        seen: ObjectVersion<'_>,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let mut secret = secret(owner, name, keyring);
        secret.metadata.uid = Some(seen.uid.0.clone());
        secret.metadata.resource_version = Some(seen.version.to_string());
        let api = self.api(&owner.namespace);
        let what = format!("replace the signing Secret '{name}'");
        unless_changed(&what, api.replace(name, &PostParams::default(), &secret)).await?;
        Ok(Done::Plain)
    }

    /// Deletes the signing Secret that was read. A Secret that does not exist counts as deleted.
    ///
    /// # Errors
    /// As any request; `Transient` if it changed since.
    pub(crate) async fn perform_delete(
        &self,
        owner: &ObjectId,
        name: &str,
        seen: ObjectVersion<'_>,
    ) -> Result<Done, EffectError> {
        self.fence.check()?;
        let params = preconditions(seen);
        bounded("delete the signing Secret", self.api(&owner.namespace).delete(name, &params)).await?;
        Ok(Done::Plain)
    }
}

/// The signing Secret with the Tenant's label.
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

/// Deletes exactly the object that was read.
pub(crate) fn preconditions(seen: ObjectVersion<'_>) -> DeleteParams {
    let (uid, version) = (seen.uid.0.clone(), seen.version.to_string());
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: Some(version) }),
        ..DeleteParams::default()
    }
}

fn view(secret: &Secret, owner: &ObjectId, name: &str) -> Seen<KeysView> {
    let mark = secret.metadata.labels.as_ref().and_then(|l| l.get(names::TENANT_UID_LABEL));
    if mark != Some(&owner.uid.0) {
        return Seen::Foreign(format!(
            "Secret '{name}' exists and does not belong to this Tenant; rename or delete it"
        ));
    }
    let data = secret.data.as_ref();
    Seen::Ours(KeysView {
        uid: Uid(secret.metadata.uid.clone().unwrap_or_default()),
        version: version_of(secret),
        keyring: Keyring::parse_secret(|key| data.and_then(|d| d.get(key)).map(|bytes| bytes.0.as_slice())),
    })
}
