//! What the operator says of its databases, as DatabaseInstances in its own namespace. It alone makes and writes them.

use super::{
    error::{bounded, required, unless_taken},
    fence::LeaseFence,
};
use crate::{
    api::{DatabaseInstance, DatabaseInstanceSpec, DatabaseInstanceStatus},
    domain::class::ErrorClass,
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
    /// Those in this namespace.
    pub fn new(client: Client, namespace: &str, fence: LeaseFence) -> Self {
        Self { api: Api::namespaced(client, namespace), fence }
    }

    /// One of them.
    ///
    /// # Errors
    /// As any request.
    pub async fn observe(&self, name: &str) -> Result<Option<DatabaseInstance>, EffectError> {
        bounded("read a DatabaseInstance", self.api.get(name)).await
    }

    /// Makes one.
    ///
    /// # Errors
    /// As any request; `Transient` if it is there by now.
    pub async fn perform_create(&self, name: &str) -> Result<DatabaseInstance, EffectError> {
        self.fence.check()?;
        let object = DatabaseInstance::new(name, DatabaseInstanceSpec {});
        let made = unless_taken("create a DatabaseInstance", self.api.create(&PostParams::default(), &object)).await?;
        made.ok_or_else(|| EffectError::new(ErrorClass::Transient, "the DatabaseInstance is there by now"))
    }

    /// Writes the status of one, if it is still the version that was seen.
    ///
    /// # Errors
    /// As any request; `Transient` if it is another version by now.
    pub async fn perform_write_status(
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

    /// Takes away those of databases that are not in the settings any more.
    ///
    /// # Errors
    /// As any request.
    pub async fn perform_keep_only(&self, names: &[String]) -> Result<(), EffectError> {
        let all = required("list the DatabaseInstances", self.api.list(&ListParams::default())).await?;
        for gone in all.items.iter().map(ResourceExt::name_any).filter(|name| !names.contains(name)) {
            self.fence.check()?;
            bounded("delete a DatabaseInstance", self.api.delete(&gone, &DeleteParams::default())).await?;
        }
        Ok(())
    }
}
