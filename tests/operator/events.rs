//! Events about an installation's objects.

use super::installation::Installation;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};

impl Installation {
    /// Events about an object, given by its name or its UID, for a reason.
    pub async fn events(&self, object: &str, reason: &str) -> anyhow::Result<Vec<Event>> {
        let events: Api<Event> = Api::namespaced(self.client().await?, &self.tenants_namespace);
        let mut found = events.list(&ListParams::default()).await?.items;
        found.retain(|event| {
            let regarding = event.regarding.as_ref();
            let is_about = regarding.is_some_and(|r| [r.name.as_deref(), r.uid.as_deref()].contains(&Some(object)));
            is_about && event.reason.as_deref() == Some(reason)
        });
        Ok(found)
    }

    /// The notes of these events.
    pub async fn notes(&self, object: &str, reason: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.events(object, reason).await?.into_iter().filter_map(|event| event.note).collect())
    }
}
