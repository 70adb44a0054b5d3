//! The proxy injects each fault as described, and nothing else.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use devkit::{ApiRequest, Environment, Fault, Proxy, WatchFault};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

struct ProxiedNamespace {
    proxy: Proxy,
    through: Api<ConfigMap>,
    direct: Api<ConfigMap>,
}

impl ProxiedNamespace {
    async fn new() -> anyhow::Result<ProxiedNamespace> {
        let env = Environment::shared().await?;
        let namespace = env.create_namespace("proxy").await?;
        let proxy = Proxy::start(env.kubeconfig_path()?).await?;
        let file = Kubeconfig::read_from(proxy.kubeconfig(env.kubeconfig_path()?)?)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        let through = Api::namespaced(Client::try_from(config)?, &namespace);
        Ok(ProxiedNamespace { proxy, through, direct: Api::namespaced(env.client().await?, &namespace) })
    }

    /// Creates a ConfigMap through the proxy. The error is the status of a refusal, or 0 without an answer.
    async fn create(&self, name: &str) -> Result<ConfigMap, u16> {
        let map = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        self.through.create(&PostParams::default(), &map).await.map_err(|error| match error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        })
    }

    fn on_create(&self, fault: Fault) {
        self.proxy.inject(move |asked: &ApiRequest| (asked.verb == "create").then_some(fault));
    }
}

#[tokio::test]
async fn a_request_fails_in_the_way_that_was_chosen() -> anyhow::Result<()> {
    let stage = ProxiedNamespace::new().await?;
    assert!(stage.create("plain").await.is_ok());
    // The fault, what the caller gets, and whether the object is there.
    for (name, fault, code, there) in [
        ("refused", Fault::Refused(429), 429, false),
        ("masked", Fault::Masked(504), 504, true),
        ("twice", Fault::Twice, 409, true),
        ("cut", Fault::Cut, 0, false),
        ("lost", Fault::LostReply, 0, true),
    ] {
        stage.on_create(fault);
        assert_eq!(stage.create(name).await.err(), Some(code), "{name}");
        assert_eq!(stage.direct.get_opt(name).await?.is_some(), there, "{name}");
    }
    stage.on_create(Fault::Late(Duration::from_millis(300)));
    let sent = Instant::now();
    stage.create("late").await.unwrap();
    assert!(sent.elapsed() >= Duration::from_millis(300));

    // The write of another client makes the version that was read outdated.
    stage.proxy.inject(|asked| (asked.verb == "patch").then_some(Fault::Rival));
    let seen = stage.direct.get("late").await?;
    let patch = json!({ "metadata": { "resourceVersion": seen.metadata.resource_version }, "data": { "a": "b" } });
    let refused = stage.through.patch("late", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    stage.proxy.heal();
    assert!(stage.create("healed").await.is_ok());
    assert_eq!(stage.proxy.injected().values().sum::<u64>(), 7);
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_until_it_is_broken() -> anyhow::Result<()> {
    let stage = ProxiedNamespace::new().await?;
    for how in [WatchFault::Cut, WatchFault::Expired, WatchFault::Silent] {
        // A bookmark may be on its way when the watch falls silent, so none is asked for.
        let mut events = stage.through.watch(&WatchParams::default().disable_bookmarks(), "0").await?.boxed();
        let name = format!("{how:?}").to_lowercase();
        stage.create(&name).await.unwrap();
        loop {
            // The namespace's own ConfigMap comes and changes too.
            match events.try_next().await?.expect("the watch goes on") {
                WatchEvent::Added(map) if map.metadata.name.as_deref() == Some(&name) => break,
                _ => {}
            }
        }
        stage.proxy.break_watches(how);
        // After the watch has failed, another object is created, of which no event may come.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.create(&format!("{name}-2")).await.unwrap();
        match (how, tokio::time::timeout(Duration::from_millis(500), events.next()).await) {
            // kube treats an end in the middle of a body as the end of the watch.
            (WatchFault::Cut, Ok(Some(Err(_)) | None)) => {}
            (WatchFault::Expired, Ok(Some(Ok(WatchEvent::Error(status))))) => assert_eq!(status.code, 410),
            (WatchFault::Silent, Err(_)) => {}
            (how, other) => panic!("{how:?}: {other:?}"),
        }
    }
    Ok(())
}
