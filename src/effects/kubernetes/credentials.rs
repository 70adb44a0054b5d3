//! Providers' credentials: Secrets that AgentConfigs refer to. They are read by name, because the operator may not list
//! Secrets; so nothing tells it of a change, and it asks for their versions.

use super::{cache::Key, error::bounded, watch::version_of};
use crate::{
    api::SecretKeyRef,
    domain::{
        entry::credential_hash,
        ident::{ObjectId, Version},
        keys::KeyBytes,
    },
    effects::error::EffectError,
    plan::observed::{Credential, Seen},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What an AgentConfig has read: the Secret, and its version; zero: it did not exist.
type Read = (Key, Version);

/// The Secrets, and which version of them each AgentConfig has read. Clones share it.
#[derive(Clone)]
pub struct CredentialSecrets {
    client: Client,
    reads: Arc<Mutex<BTreeMap<Key, Read>>>,
}

impl CredentialSecrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, reads: Arc::default() }
    }

    fn reads(&self) -> MutexGuard<'_, BTreeMap<Key, Read>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Reads the credential of an AgentConfig.
    pub(crate) async fn observe(&self, agent: &ObjectId, reference: Option<&SecretKeyRef>) -> Seen<Credential> {
        let agent_key = Key::new(&agent.namespace, &agent.name);
        let Some(SecretKeyRef { name, key }) = reference else {
            self.reads().remove(&agent_key);
            return Seen::Missing;
        };
        let secret = match bounded("read the provider's credential", self.api(&agent.namespace).get(name)).await {
            Ok(secret) => secret,
            Err(error) => return Seen::Unknown(error.read_error()),
        };
        let version = secret.as_ref().map(version_of).unwrap_or_default();
        self.note(agent_key, Key::new(&agent.namespace, name), version);
        match secret.as_ref().and_then(|secret| secret.data.as_ref()?.get(key)) {
            Some(value) if !value.0.trim_ascii().is_empty() => {
                // Files end in a newline, also in `kubectl create secret --from-file`. An HTTP header can't contain it.
                let api_key = KeyBytes::new(value.0.trim_ascii().to_vec());
                Seen::Ours(Credential { hash: credential_hash(&agent.namespace, &api_key), api_key })
            }
            Some(_) | None => Seen::Missing,
        }
    }

    /// Records which version of a Secret an AgentConfig has read, or is going to read.
    pub(crate) fn note(&self, agent: Key, secret: Key, version: Version) {
        self.reads().insert(agent, (secret, version));
    }

    /// The Secrets that AgentConfigs have read, with their readers. Drops the readers that are not `alive`.
    pub(crate) fn readers(&self, alive: impl Fn(&Key) -> bool) -> BTreeMap<Key, Vec<(Key, Version)>> {
        let mut reads = self.reads();
        reads.retain(|agent, _| alive(agent));
        let mut readers: BTreeMap<Key, Vec<(Key, Version)>> = BTreeMap::new();
        for (agent, (secret, version)) in reads.iter() {
            readers.entry(secret.clone()).or_default().push((agent.clone(), *version));
        }
        readers
    }

    /// The version of a Secret; zero: it does not exist. Its content isn't sent.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn observe_version(&self, secret: &Key) -> Result<Version, EffectError> {
        let request = self.api(&secret.namespace);
        let found = bounded("look for a newer version of a credential", request.get_metadata(&secret.name)).await?;
        Ok(found.as_ref().map(version_of).unwrap_or_default())
    }
}
