//! The environment of a test run, as tests use it.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, time::Duration};

use devkit::{Environment, PgVersion, Postgres, Process, Spec, eventually, unique};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

#[tokio::test]
async fn all_tests_of_a_process_share_one_environment() {
    let (one, two) = tokio::join!(Environment::shared(), Environment::shared());
    assert_eq!(one.unwrap().kubeconfig_path().unwrap(), two.unwrap().kubeconfig_path().unwrap());
    if std::env::var_os("DEVKIT_ENV").is_some() {
        let refusal = one_sentence(Environment::shared().await.unwrap().apiserver().unwrap_err());
        assert!(refusal.starts_with("this API server belongs to the whole test run"), "{refusal}");
    }
}

fn one_sentence(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[tokio::test]
async fn kubectl_and_helm_talk_to_it() {
    let env = Environment::shared().await.unwrap();
    let namespace = env.create_namespace("tools").await.unwrap();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: here}\ndata: {a: b}\n";
    env.kubectl_with(&["-n", &namespace, "apply", "-f", "-"], map).await.unwrap().ok().unwrap();
    let get = ["-n", &namespace, "get", "configmap", "here", "-o", "jsonpath={.data.a}"];
    assert_eq!(env.kubectl(&get).await.unwrap().ok().unwrap(), "b");
    let missing = env.kubectl(&["-n", &namespace, "get", "configmap", "nowhere"]).await.unwrap();
    assert!(!missing.is_success());
    assert!(one_sentence(missing.ok().unwrap_err()).contains("NotFound"));
    let releases = env.helm(&["list", "-n", &namespace, "-o", "json"]).await.unwrap().ok().unwrap();
    assert_eq!(releases.trim(), "[]");
    // The controllers work: a deleted namespace goes away.
    env.kubectl(&["delete", "namespace", &namespace, "--timeout=60s"]).await.unwrap().ok().unwrap();
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let env = Environment::shared().await.unwrap();
    let namespace = env.create_namespace("rbac").await.unwrap();
    for args in [
        &["create", "serviceaccount", "reader"][..],
        &["create", "role", "reader", "--verb=get,list", "--resource=configmaps"],
        &["create", "rolebinding", "reader", "--role=reader", &format!("--serviceaccount={namespace}:reader")],
    ] {
        let args = [&["-n", &namespace], args].concat();
        env.kubectl(&args).await.unwrap().ok().unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = env.service_account_kubeconfig(&namespace, "reader", dir.path()).await.unwrap();
    let file = Kubeconfig::read_from(file).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    assert_eq!(config.default_namespace, namespace);
    let client = Client::try_from(config).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(maps.list(&Default::default()).await.unwrap().items.len(), 1, "the cluster's CA is published");
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let denied = secrets.list(&Default::default()).await.unwrap_err();
    assert!(matches!(&denied, kube::Error::Api(status) if status.code == 403), "{denied}");
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own_on_the_oldest_and_the_newest_server() {
    for version in [PgVersion::OLDEST, PgVersion::NEWEST] {
        let server = Postgres::shared(version).await.unwrap();
        assert_eq!(server.version_major(), version.major());
        let mut names = BTreeSet::new();
        for _ in 0..2 {
            let database = server.create_database(&unique("shared")).await.unwrap();
            use sqlx::Connection as _;
            let mut connection = sqlx::PgConnection::connect(&database.superuser_url()).await.unwrap();
            let found: (String, i32) =
                sqlx::query_as("SELECT current_database()::text, current_setting('server_version_num')::int4")
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
            assert_eq!(found.1.unsigned_abs() / 10_000, version.major());
            names.insert(found.0);
            database.drop_now().await.unwrap();
        }
        assert_eq!(names.len(), 2);
    }
}

#[tokio::test]
async fn a_process_can_be_waited_for_ended_and_its_log_read() {
    let spec = |script: &str| Spec::new("talker", "sh").args(["-c", script]);
    let talker =
        Process::spawn(spec("echo started; trap 'echo bye; exit 4' TERM; while :; do sleep 0.05; done")).unwrap();
    let started = || async {
        anyhow::ensure!(talker.log().contains("started"), "nothing yet");
        Ok(())
    };
    eventually(Duration::from_secs(10), "it speaks", started).await.unwrap();
    talker.terminate();
    assert_eq!(talker.wait_exit(Duration::from_secs(10)).await.unwrap().code(), Some(4));
    assert!(talker.log().ends_with("bye\n"), "{}", talker.log());

    let sleeper = Process::spawn(spec("sleep 300")).unwrap();
    assert!(
        one_sentence(sleeper.wait_exit(Duration::from_millis(50)).await.unwrap_err()).contains("has not ended within")
    );
    assert_eq!(sleeper.kill_9().await.unwrap().code(), None);
    assert_ne!(sleeper.log_path(), talker.log_path());

    let dead = Process::spawn(spec("echo no; exit 1")).unwrap();
    let error = dead.wait_http("http://127.0.0.1:9/", Duration::from_secs(20)).await.unwrap_err();
    assert!(one_sentence(error).starts_with("talker ended at its start (exit status: 1)"));

    let missing = Process::spawn(Spec::new("ghost", "no-such-program-anywhere")).unwrap_err();
    assert_eq!(one_sentence(missing), "ghost can't be started: no-such-program-anywhere is not on the search path");
}

#[tokio::test]
async fn eventually_reports_the_last_error() {
    let mut tries = 0;
    let result: anyhow::Result<()> = eventually(Duration::from_millis(200), "the moon is full", || {
        tries += 1;
        async move { anyhow::bail!("not full at try {tries}") }
    })
    .await;
    let text = one_sentence(result.unwrap_err());
    assert!(text.starts_with("not within 200ms: the moon is full: not full at try "), "{text}");
}
