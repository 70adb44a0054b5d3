//! The custom resource definitions of the repository, applied to a control plane.

use std::{fs, time::Duration};

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};

use crate::{eventually, repository};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Applies every file in `crds/` and waits until the API server serves the resources.
pub(crate) async fn apply(client: &Client) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let folder = repository().join("crds");
    let files = fs::read_dir(&folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let mut resources = Vec::new();
    for file in files {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        let crd: CustomResourceDefinition =
            serde_yaml::from_str(&text).with_context(|| format!("{} is not a CRD", path.display()))?;
        api.patch(&crd.name_any(), &PatchParams::apply("devkit").force(), &Patch::Apply(&crd)).await?;
        let version = crd.spec.versions.first().context("a CRD has no version")?;
        let gvk = GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
        resources.push(ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural));
    }
    eventually(TIMEOUT, "the API server serves the CRDs", || async {
        for resource in &resources {
            let objects: Api<DynamicObject> = Api::all_with(client.clone(), resource);
            objects.list_metadata(&ListParams::default()).await?;
        }
        Ok(())
    })
    .await
}
