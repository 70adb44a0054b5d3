//! The operator's databases, reported as DatabaseInstances in its own namespace. Only the operator creates and writes
//! them.

use super::{
    error::{bounded, required, unless_changed},
    fence::LeaseFence,
};
use crate::{
    api::{DatabaseInstance, DatabaseInstanceSpec, DatabaseInstanceStatus},
    effects::error::EffectError,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// The DatabaseInstances of this operator.
#[derive(Clone)]
pub struct InstanceObjects {
    api: Api<DatabaseInstance>,
    fence: LeaseFence,
}

impl InstanceObjects {
    pub(crate) fn new(client: Client, namespace: &str, fence: LeaseFence) -> Self {
        Self { api: Api::namespaced(client, namespace), fence }
    }

    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn observe(&self, name: &str) -> Result<Option<DatabaseInstance>, EffectError> {
        bounded("read a DatabaseInstance", self.api.get(name)).await
    }

    /// Creates a DatabaseInstance.
    ///
    /// # Errors
    /// As any request; `Transient` if it exists.
    pub(crate) async fn perform_create(&self, name: &str) -> Result<DatabaseInstance, EffectError> {
        self.fence.check()?;
        let object = DatabaseInstance::new(name, DatabaseInstanceSpec {});
        unless_changed("create a DatabaseInstance", self.api.create(&PostParams::default(), &object)).await
    }

    /// Writes the status of a DatabaseInstance, if it is still the version that was read.
    ///
    /// # Errors
    /// As any request; `Transient` if it has another version.
    pub(crate) async fn perform_write_status(
        &self,
        seen: &DatabaseInstance,
        status: &DatabaseInstanceStatus,
    ) -> Result<(), EffectError> {
        self.fence.check()?;
        let patch = json!({ "metadata": { "resourceVersion": seen.resource_version() }, "status": status });
        let (name, params, patch) = (seen.name_any(), PatchParams::default(), Patch::Merge(patch));
        let sent = self.api.patch_status(&name, &params, &patch);
        required("write the status of a DatabaseInstance", sent).await.map(drop)
    }

    /// Deletes the DatabaseInstances of databases that are not in the settings any more.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn perform_keep_only(&self, names: &[String]) -> Result<(), EffectError> {
        let all = required("list the DatabaseInstances", self.api.list(&ListParams::default())).await?;
        for removed in all.items.iter().map(ResourceExt::name_any).filter(|name| !names.contains(name)) {
            self.fence.check()?;
            bounded("delete a DatabaseInstance", self.api.delete(&removed, &DeleteParams::default())).await?;
        }
        Ok(())
    }
}
