//! A node without a kubelet: real Pods of the chart's Deployment; the test writes their status as a kubelet would.

use super::installation::{Installation, LONG};
use devkit::{Component, Process, eventually};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

/// See the file's description.
pub struct Node<'f> {
    installation: &'f Installation,
    /// Its Pods.
    pub pods: Api<Pod>,
}

/// The result of a readiness probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Ready,
    NotReady,
}

impl<'f> Node<'f> {
    /// Creates the chart's Deployment of the agent API and binds the Pods that the cluster makes of it.
    pub async fn new(installation: &'f Installation) -> anyhow::Result<(Self, Vec<Pod>)> {
        let client = installation.env.client().await?;
        let namespace = installation.release.namespace();
        let deployment: Deployment =
            serde_json::from_value(installation.release.object("Deployment", Component::AgentApi)?.clone())?;
        let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or_default();
        Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &deployment).await?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let made = eventually(LONG, "the Deployment has its Pods", || async {
            let pods = pods.list(&ListParams::default().labels("app.kubernetes.io/component=agent-api")).await?.items;
            anyhow::ensure!(pods.len() == usize::try_from(wanted)?, "there are {}", pods.len());
            Ok(pods)
        })
        .await?;
        for pod in &made {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": { "name": pod.name_any() },
                "target": { "apiVersion": "v1", "kind": "Node", "name": "nowhere" },
            });
            let _: serde_json::Value =
                pods.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await?;
        }
        Ok((Self { installation, pods }, made))
    }

    /// Starts the agent API as the container of a Pod, with the variables that the chart gives it.
    pub async fn start(&self, pod: &Pod) -> anyhow::Result<Process> {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let variables =
            [("POD_NAME", name.as_str()), ("POD_UID", &uid), ("POD_NAMESPACE", self.installation.release.namespace())];
        Ok(self.installation.replica_with(&variables).await?.process)
    }

    /// Writes the status of a Pod with a running container, and with the result of its readiness probe.
    pub async fn set_probe(&self, pod: &Pod, probe: Probe) -> anyhow::Result<()> {
        let (ready, now) = (probe == Probe::Ready, jiff::Timestamp::now().to_string());
        let condition = |type_: &str, status: bool| {
            let status = if status { "True" } else { "False" };
            json!({ "type": type_, "status": status, "lastTransitionTime": now })
        };
        let status = json!({ "status": {
            "phase": "Running", "podIP": "10.0.0.9", "podIPs": [{ "ip": "10.0.0.9" }], "startTime": now,
            "conditions": [
                condition("PodScheduled", true), condition("Initialized", true),
                condition("ContainersReady", ready), condition("Ready", ready),
            ],
            "containerStatuses": [{
                "name": "agent-api", "image": "agent-api", "imageID": "", "ready": ready, "started": true,
                "restartCount": 0, "state": { "running": { "startedAt": now } },
            }],
        } });
        self.pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    /// Deletes the Pod without a grace period.
    pub async fn remove(&self, pod: &Pod) -> anyhow::Result<()> {
        self.pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}
