//! A whole process behind an API server that fails in every way: it serves on, applies the next change, acknowledges it,
//! and asks no oftener than it should.

use super::{
    cluster::Cluster,
    in_process::{InProcessApi, agent},
    process::{Process, eventually},
};
use devkit::{ApiRequest, Environment, Fault, Proxy, WatchFault};
use kube::api::DeleteParams;
use serde_json::json;
use std::time::{Duration, Instant};

/// A process behind a proxy, ready, with tenant `acme` at revision 1 of its agent.
struct Behind {
    proxy: Proxy,
    cluster: Cluster,
    process: Process,
    api: InProcessApi,
    revision: i64,
    _folder: tempfile::TempDir,
}

impl Behind {
    async fn new() -> Self {
        let environment = Environment::shared().await.unwrap();
        let api = InProcessApi::with_tenants(&["acme", "beta"], |_| {}).await;
        let cluster = Cluster::new(environment).await;
        cluster.put("agent-a1", &agent("a1")).await;
        cluster.put("cell-main-1", &api.cell()).await;
        cluster.put("tenant-acme", &api.tenant("acme")).await;
        let admin = environment.kubeconfig_path().unwrap();
        let proxy = Proxy::start(admin).await.unwrap();
        let through = proxy.kubeconfig(admin).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let variables = [
            ("KUBECONFIG", through.to_str().unwrap()),
            ("AGENT_TENANCY__REGISTRY__NAMESPACE", &cluster.registry),
            ("AGENT_TENANCY__REGISTRY__WATCH_SECONDS", "2"),
            ("AGENT_TENANCY__ACKNOWLEDGEMENT__NAMESPACE", &cluster.namespace),
        ];
        let process = Process::start(&variables, &folder.path().join("log"));
        process.wait_until_ready().await;
        Self { proxy, cluster, process, api, revision: 1, _folder: folder }
    }

    /// Writes the next revision; returns its version.
    async fn change(&mut self) -> u64 {
        self.revision += 1;
        let mut next = agent("a1");
        next["current"]["number"] = json!(self.revision);
        self.cluster.put("agent-a1", &next).await
    }

    /// The newest revision answers, and its version is acknowledged; how long that took.
    async fn served(&self, version: u64, how: &str) -> Duration {
        let began = Instant::now();
        eventually(&format!("the change is served after: {how}"), async || {
            self.process.chat("acme", "hi").await.1["revision"] == self.revision
        })
        .await;
        let acknowledged = self.cluster.wait_for_version(version).await;
        assert!(acknowledged.quarantined.is_empty(), "{acknowledged:?}");
        began.elapsed()
    }

    fn asked(&self, what: &str) -> u64 {
        self.proxy.seen().get(what).copied().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_breaks_in_any_way_costs_no_change() {
    let mut behind = Behind::new().await;
    // A silent watch is found out 5 s after the server should have ended it.
    for (how, limit) in [(WatchFault::Cut, 6), (WatchFault::Expired, 6), (WatchFault::Silent, 12)] {
        behind.proxy.break_watches(how);
        tokio::time::sleep(Duration::from_millis(30)).await;
        let version = behind.change().await;
        let took = behind.served(version, &format!("{how:?}")).await;
        println!("watch {how:?}: the next change is served and acknowledged after {took:.0?}");
        assert!(took < Duration::from_secs(limit), "{how:?}: {took:?}");
    }
    // Both a change and a deletion fall into the gap; the new watch can't begin where the old one ended.
    let mut beta = behind.api.tenant("beta");
    behind.cluster.put("tenant-beta", &beta).await;
    beta["state"] = json!("deleting");
    let version = behind.cluster.put("tenant-beta", &beta).await;
    behind.cluster.wait_for_version(version).await;
    behind.proxy.inject(|asked: &ApiRequest| (asked.verb == "watch").then_some(Fault::Refused(410)));
    behind.proxy.break_watches(WatchFault::Cut);
    let before = behind.asked("list secrets");
    behind.cluster.secrets.delete("tenant-beta", &DeleteParams::default()).await.unwrap();
    let version = behind.change().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lists = behind.asked("list secrets") - before;
    behind.proxy.heal();
    behind.served(version, "410 to every watch").await;
    assert_eq!(behind.process.chat("beta", "hi").await.0, 401, "the deletion came with the list");
    assert!((1..=12).contains(&lists), "{lists} lists in 3 s while every watch was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_refuses_loses_and_delays_is_asked_again_at_a_bounded_rate() {
    let mut behind = Behind::new().await;
    let ended = Fault::Watch(Duration::ZERO, WatchFault::Cut);
    let faults = [Fault::Refused(500), Fault::Refused(429), Fault::Cut, Fault::LostReply, Fault::Masked(504), ended];
    for fault in faults {
        behind.proxy.inject(move |asked: &ApiRequest| (asked.verb != "patch").then_some(fault));
        behind.proxy.break_watches(WatchFault::Expired);
        let before = behind.asked("list secrets") + behind.asked("watch secrets");
        let version = behind.change().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(behind.process.chat("acme", "hi").await.0, 200, "it serves on");
        let asked = behind.asked("list secrets") + behind.asked("watch secrets") - before;
        behind.proxy.heal();
        let took = behind.served(version, &format!("{fault:?}")).await;
        // The watch is a good one again.
        let version = behind.change().await;
        behind.served(version, "another change").await;
        println!("{fault:?} for 1.5 s: asked {asked} times; served {took:.0?} later");
        assert!((2..=16).contains(&asked), "{fault:?}: asked {asked} times in 1.5 s");
        assert!(took < Duration::from_secs(8), "{fault:?}: {took:?}");
    }
    // The acknowledgement itself: refused, executed without a reply, gone.
    for fault in [Fault::Refused(500), Fault::Refused(409), Fault::LostReply, Fault::Cut, Fault::Twice] {
        behind.proxy.inject(move |asked: &ApiRequest| (asked.resource == "leases").then_some(fault));
        let version = behind.change().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        behind.proxy.heal();
        behind.served(version, &format!("Leases {fault:?}")).await;
    }
    let lease = behind.cluster.lease_name().await;
    behind.cluster.leases.delete(&lease, &DeleteParams::default()).await.unwrap();
    let version = behind.change().await;
    behind.served(version, "the Lease was deleted").await;
    assert_eq!(behind.cluster.lease_name().await, lease);
}
