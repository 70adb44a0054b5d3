//! A whole process that follows the Secrets of a real API server and acknowledges them in its Lease.

use super::{
    in_process::{InProcessApi, agent},
    process::{Process, eventually},
};
use agent_tenancy::{
    api::names::{ACK_ANNOTATION, ACK_LABEL, ENTRY_KEY, ENTRY_LABEL, ENTRY_SECRET_TYPE},
    domain::ack::Acknowledgement,
};
use devkit::Environment;
use k8s_openapi::{
    ByteString,
    api::{coordination::v1::Lease, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Instant};

/// A registry of one test's own.
pub struct Cluster {
    pub secrets: Api<Secret>,
    pub leases: Api<Lease>,
    /// Namespace of the registry.
    pub registry: String,
    /// Namespace of the Leases.
    pub namespace: String,
}

impl Cluster {
    pub async fn new(environment: &Environment) -> Self {
        let client = environment.client().await.unwrap();
        let registry = environment.create_namespace("registry").await.unwrap();
        let namespace = environment.create_namespace("home").await.unwrap();
        let (secrets, leases) = (Api::namespaced(client.clone(), &registry), Api::namespaced(client, &namespace));
        Self { secrets, leases, registry, namespace }
    }

    fn secret(name: &str, entry: &Value) -> Secret {
        let kind = name.split('-').next().unwrap().to_owned();
        Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                labels: Some(BTreeMap::from([(ENTRY_LABEL.into(), kind)])),
                ..ObjectMeta::default()
            },
            type_: Some(ENTRY_SECRET_TYPE.into()),
            data: Some(BTreeMap::from([(ENTRY_KEY.into(), ByteString(entry.to_string().into_bytes()))])),
            ..Secret::default()
        }
    }

    /// Writes an entry; returns its version.
    pub async fn put(&self, name: &str, entry: &Value) -> u64 {
        let secret = Self::secret(name, entry);
        let written = match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(written) => written,
            Err(_) => self.secrets.patch(name, &PatchParams::default(), &Patch::Merge(&secret)).await.unwrap(),
        };
        written.metadata.resource_version.unwrap().parse().unwrap()
    }

    pub async fn acknowledged(&self) -> Option<Acknowledgement> {
        let leases = self.leases.list(&ListParams::default().labels(ACK_LABEL)).await.unwrap();
        let lease = leases.items.into_iter().next()?;
        Some(serde_json::from_str(&lease.metadata.annotations?[ACK_ANNOTATION]).unwrap())
    }

    /// Name of the one Lease.
    pub async fn lease_name(&self) -> String {
        let leases = self.leases.list(&ListParams::default().labels(ACK_LABEL)).await.unwrap().items;
        assert_eq!(leases.len(), 1);
        leases[0].metadata.name.clone().unwrap()
    }

    pub async fn wait_for_version(&self, version: u64) -> Acknowledgement {
        eventually("the version is acknowledged", async || {
            self.acknowledged().await.is_some_and(|a| a.version.0 >= version)
        })
        .await;
        self.acknowledged().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_follows_a_cluster_and_says_what_it_serves() {
    let environment = Environment::shared().await.unwrap();
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let cluster = Cluster::new(environment).await;
    cluster.put("agent-a1", &agent("a1")).await;
    cluster.put("cell-main-1", &api.cell()).await;
    let entry = api.tenant("acme");
    let listed = cluster.put("tenant-acme", &entry).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let variables = [
        ("KUBECONFIG", environment.kubeconfig_path().unwrap().to_str().unwrap()),
        ("AGENT_TENANCY__REGISTRY__NAMESPACE", &cluster.registry),
        ("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", &cluster.namespace),
    ];
    let process = Process::start(&variables, &log);
    process.wait_until_ready().await;
    let first = cluster.acknowledged().await.expect("ready means acknowledged");
    assert!(first.version.0 >= listed && first.quarantined.is_empty() && first.pod.is_none());
    assert_eq!(process.chat("acme", "hi").await.1["revision"], 1);

    let mut times = Vec::new();
    for number in 2..22 {
        let mut next = agent("a1");
        next["current"]["number"] = json!(number);
        let version = cluster.put("agent-a1", &next).await;
        let began = Instant::now();
        eventually("the revision answers", async || {
            process.chat("acme", "hi").await.1["revision"].as_i64() >= Some(number)
        })
        .await;
        times.push(began.elapsed());
        cluster.wait_for_version(version).await;
    }
    times.sort();
    println!("AgentConfig written to served: p50 {:?}, slowest {:?}", times[10], times[19]);

    // A cell that doesn't let us in: only its tenant is refused, and by name.
    let mut cell = api.cell();
    cell["cell"] = json!(2);
    cell["password"] = json!("d3Jvbmc=");
    cluster.put("cell-main-2", &cell).await;
    let mut other = api.tenant("beta");
    other["database"]["cell"] = json!(2);
    let version = cluster.put("tenant-beta", &other).await;
    let refused = cluster.wait_for_version(version).await;
    let reasons: Vec<_> = refused.quarantined.iter().map(|(i, r)| (i.0.to_string(), r.clone())).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert_eq!(json!(reasons[0].0), other["incarnation"]);
    assert!(reasons[0].1.contains("'cell-main-2'"), "{reasons:?}");
    assert_eq!(process.chat("beta", "hi").await.0, 503);
    assert_eq!(process.chat("acme", "hi").await.0, 200);

    // A deletion by hand is acknowledged as seen, and ignored; the operator's own is carried out.
    let deleted = cluster.secrets.delete("tenant-acme", &DeleteParams::default()).await.unwrap();
    drop(deleted);
    eventually("the deletion is ignored", async || process.registry().await["ignoredDeletions"] != json!({})).await;
    assert_eq!(process.chat("acme", "hi").await.0, 200);
    let mut deleting = entry.clone();
    deleting["state"] = json!("deleting");
    let version = cluster.put("tenant-acme", &deleting).await;
    cluster.wait_for_version(version).await;
    assert_eq!(process.chat("acme", "hi").await.0, 410);
    cluster.secrets.delete("tenant-acme", &DeleteParams::default()).await.unwrap();
    eventually("the tenant is gone", async || process.chat("acme", "hi").await.0 == 401).await;
    // The deletion has a version of its own, and is acknowledged like a change.
    cluster.wait_for_version(version + 1).await;

    process.process.terminate();
    assert!(process.process.ended().await.unwrap().success());
    assert!(cluster.acknowledged().await.is_none(), "the Lease goes with the process");
}
