//! The release's ServiceAccounts, roles and bindings in a cluster, without the rest of it.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::Value;

use super::Release;
use crate::{Environment, eventually};

const TIMEOUT: Duration = Duration::from_secs(30);

impl Release {
    /// Creates the ServiceAccounts, roles and bindings; returns when the API server acts on them.
    pub async fn grant(&self, env: &Environment) -> anyhow::Result<()> {
        let client = env.client().await?;
        for kind in ["ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"] {
            for object in self.objects.iter().filter(|object| object["kind"] == kind) {
                apply(&client, object).await?;
            }
        }
        let reviews: Vec<SubjectAccessReviewSpec> = self.bindings().filter_map(|(b, r)| review(b, r)).collect();
        for spec in reviews {
            let what = format!("the API server grants {:?} to {:?}", spec.resource_attributes, spec.user);
            let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            eventually(TIMEOUT, &what, || async {
                let answer = reviews.create(&PostParams::default(), &review).await?;
                anyhow::ensure!(answer.status.is_some_and(|status| status.allowed), "not yet");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Each binding with its role.
    pub fn bindings(&self) -> impl Iterator<Item = (&Value, &Value)> {
        let bindings = self.objects.iter().filter(|o| o["kind"] == "RoleBinding" || o["kind"] == "ClusterRoleBinding");
        bindings.filter_map(|binding| {
            let reference = &binding["roleRef"];
            let role = self.objects.iter().find(|object| {
                object["kind"] == reference["kind"]
                    && object["metadata"]["name"] == reference["name"]
                    && (reference["kind"] == "ClusterRole"
                        || object["metadata"]["namespace"] == binding["metadata"]["namespace"])
            });
            role.map(|role| (binding, role))
        })
    }
}

async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = match object["apiVersion"].as_str().unwrap_or_default().split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text(&object["apiVersion"])),
    };
    let kind = text(&object["kind"]);
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let gvk = GroupVersionKind { group, version, kind };
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = text(&object["metadata"]["name"]);
    let params = PatchParams::apply("devkit").force();
    let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
    applied.with_context(|| format!("{plural} {name} can't be applied"))?;
    Ok(())
}

/// Asks for the first permission of a binding's role: a role comes into force as a whole.
fn review(binding: &Value, role: &Value) -> Option<SubjectAccessReviewSpec> {
    let first = |list: &Value| list.get(0).and_then(Value::as_str).map(str::to_owned);
    let (rule, subject) = (role["rules"].get(0)?, binding["subjects"].get(0)?);
    let account = format!("{}:{}", subject["namespace"].as_str()?, subject["name"].as_str()?);
    let resource = first(&rule["resources"])?;
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: first(&rule["apiGroups"]),
        resource: Some(resource),
        subresource,
        name: first(&rule["resourceNames"]),
        namespace: binding["metadata"]["namespace"].as_str().map(str::to_owned),
        verb: first(&rule["verbs"]),
        ..ResourceAttributes::default()
    };
    Some(SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{account}")),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    })
}
