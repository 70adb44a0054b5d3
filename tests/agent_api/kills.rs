//! A replica killed with SIGKILL while it applies a change, again and again, beside one that lives: what its Lease says is
//! always true of the process that it names, and the process that takes its place begins by saying nothing.

use super::{
    cluster::Cluster,
    in_process::{InProcessApi, agent},
    process::{Process, eventually},
};
use agent_tenancy::{
    api::names::{ACK_ANNOTATION, ACK_LABEL},
    domain::ack::Acknowledgement,
};
use devkit::Environment;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api,
    api::{PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Rounds. In each it is killed twice: so many milliseconds after a change was written, and ten times as many after it was
/// started again, while it announces itself, lists, and acknowledges for the first time.
const ROUNDS: u64 = 15;

/// Every version that a Lease has acknowledged, by process, in order.
type Acknowledged = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// A Pod that no node runs: it gives the Lease its name and its owner.
async fn pod(pods: &Api<Pod>, name: &str) -> String {
    let pod =
        json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "agent-api", "image": "none" }] } });
    let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    pod.metadata.uid.unwrap()
}

fn read(lease: &Lease) -> Acknowledgement {
    serde_json::from_str(&lease.metadata.annotations.as_ref().unwrap()[ACK_ANNOTATION]).unwrap()
}

/// Notes every version of every Lease, none left out.
async fn note(leases: Api<Lease>, acknowledged: Acknowledged) {
    let mut events = leases.watch(&WatchParams::default().labels(ACK_LABEL).timeout(290), "0").await.unwrap().boxed();
    while let Some(event) = events.try_next().await.unwrap() {
        if let WatchEvent::Added(lease) | WatchEvent::Modified(lease) = event {
            let read = read(&lease);
            acknowledged.lock().unwrap().entry(read.process.to_string()).or_default().push(read.version.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_while_it_applies_never_claims_what_it_does_not_serve() {
    let environment = Environment::shared().await.unwrap();
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let cluster = Cluster::new(environment).await;
    cluster.put("agent-a1", &agent("a1")).await;
    cluster.put("cell-main-1", &api.cell()).await;
    cluster.put("tenant-acme", &api.tenant("acme")).await;
    let acknowledged = Acknowledged::default();
    tokio::spawn(note(cluster.leases.clone(), Arc::clone(&acknowledged)));
    let pods: Api<Pod> = Api::namespaced(environment.client().await.unwrap(), &cluster.namespace);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = environment.kubeconfig_path().unwrap().to_str().unwrap();
    let start = |name: &str, uid: &str| {
        let variables = [
            ("KUBECONFIG", kubeconfig),
            ("AGENT_TENANCY__REGISTRY__NAMESPACE", &cluster.registry),
            ("POD_NAMESPACE", &cluster.namespace),
            ("POD_NAME", name),
            ("POD_UID", uid),
        ];
        Process::start(&variables, &folder.path().join(format!("{name}.log")))
    };
    let (steady_uid, doomed_uid) = (pod(&pods, "steady").await, pod(&pods, "doomed").await);
    let (steady, mut doomed) = (start("steady", &steady_uid), start("doomed", &doomed_uid));
    steady.wait_until_ready().await;
    doomed.wait_until_ready().await;

    let (mut behind, mut begun, mut last) = (0, 0, 0);
    for round in 0..ROUNDS {
        let (revision, mut next) = (round as i64 + 2, agent("a1"));
        next["current"]["number"] = json!(revision);
        // The first is killed before it can know of the change, the last when it has acknowledged it, the others between.
        let killed = async {
            if round < ROUNDS - 1 {
                tokio::time::sleep(Duration::from_millis(2 * round)).await;
                doomed.process.kill_9().await.unwrap();
            }
        };
        let (version, ()) = tokio::join!(cluster.put("agent-a1", &next), killed);
        last = version;
        if round == ROUNDS - 1 {
            eventually("the change is acknowledged", async || {
                read(&cluster.leases.get("agent-api-doomed").await.unwrap()).version.0 >= version
            })
            .await;
            doomed.process.kill_9().await.unwrap();
        }
        let first = read(&cluster.leases.get("agent-api-doomed").await.unwrap());
        behind += u64::from(first.version.0 < version);
        doomed = start("doomed", &doomed_uid);
        tokio::time::sleep(Duration::from_millis(round * 10)).await;
        doomed.process.kill_9().await.unwrap();
        let second = read(&cluster.leases.get("agent-api-doomed").await.unwrap());
        begun += u64::from(second.process != first.process);
        // What the Lease of a dead process says is of no weight once its successor is there: another process, which
        // claims only what it has itself.
        doomed = start("doomed", &doomed_uid);
        eventually("the new process takes the Lease over and acknowledges the change", async || {
            let now = read(&cluster.leases.get("agent-api-doomed").await.unwrap());
            now.process != first.process && now.process != second.process && now.version.0 >= version
        })
        .await;
        assert_eq!(doomed.chat("acme", "hi").await.1["revision"], revision, "acknowledged means served");
        let now = read(&cluster.leases.get("agent-api-steady").await.unwrap());
        if now.version.0 >= version {
            assert_eq!(steady.chat("acme", "hi").await.1["revision"], revision);
        }
    }
    eventually("both have acknowledged everything", async || {
        let leases = [
            cluster.leases.get("agent-api-steady").await.unwrap(),
            cluster.leases.get("agent-api-doomed").await.unwrap(),
        ];
        // A bookmark of the watch may have brought one of them further than the last entry.
        leases.iter().all(|lease| read(lease).version.0 >= last && read(lease).quarantined.is_empty())
    })
    .await;
    for process in [&steady, &doomed] {
        assert_eq!(process.chat("acme", "hi").await.1["revision"], ROUNDS as i64 + 1);
    }
    println!(
        "{ROUNDS} kills after a change: {behind} before it was acknowledged; {ROUNDS} after a start: {begun} announced"
    );
    assert!((1..ROUNDS).contains(&behind), "kills fell to one side only");
    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(acknowledged.len() as u64, 2 + ROUNDS + begun, "each start is a process of its own");
    for (process, versions) in acknowledged.iter() {
        assert_eq!(versions[0], 0, "{process} began with a claim: {versions:?}");
        assert!(versions.is_sorted(), "{process} took a claim back: {versions:?}");
    }
}
