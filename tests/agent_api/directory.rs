//! A whole process that follows a directory: no cluster, no Lease.

use super::{
    in_process::{InProcessApi, agent},
    process::{Process, eventually},
};
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_follows_a_directory_and_drains() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &serde_json::Value| {
        let temporary = directory.path().join(format!(".{name}"));
        std::fs::write(&temporary, value.to_string()).unwrap();
        std::fs::rename(temporary, directory.path().join(format!("{name}.json"))).unwrap();
    };
    put("agent-a1", &agent("a1"));
    put("cell-main-1", &api.cell());
    put("tenant-acme", &api.tenant("acme"));
    let path = directory.path().to_str().unwrap();
    let log = directory.path().join("log");
    let process = Process::start(&[("AGENT_TENANCY__REGISTRY__DIRECTORY", path)], &log);
    process.wait_until_ready().await;
    let registry = process.registry().await;
    assert_eq!((&registry["tenants"], &registry["quarantinedCount"]), (&json!(1), &json!(0)), "{registry}");
    assert_eq!(process.chat("acme", "hi").await.1["revision"], 1);

    let mut next = agent("a1");
    next["current"]["number"] = json!(2);
    put("agent-a1", &next);
    eventually("the second revision answers", async || {
        let (status, body) = process.chat("acme", "hi").await;
        assert_eq!(status, 200, "no request fails during a reload");
        body["revision"] == 2
    })
    .await;
    std::fs::remove_file(directory.path().join("tenant-acme.json")).unwrap();
    eventually("the deletion is reported", async || process.registry().await["ignoredDeletionsCount"] == 1).await;
    let (_, page) = process.health("/registry").await;
    assert!(!page.contains("acme"), "nobody who reaches the port learns a tenant's name: {page}");
    assert_eq!(process.chat("acme", "still here").await.0, 200);
    let metrics = process.health("/metrics").await.1;
    assert!(metrics.contains("agent_api_registry_ignored_deletions_total 1"), "{metrics}");
    assert!(metrics.contains(r#"agent_api_registry_entries{kind="tenant"} 1"#), "{metrics}");
    assert!(!metrics.contains("acme"), "{metrics}");

    // A call that hangs in the database when the process gets SIGTERM is answered nevertheless.
    let mut admin = api.instance.admin().await;
    let schema = crate::setup::tenant_id("acme").database_name(&api.instance.prefix);
    let lock = format!("BEGIN; LOCK TABLE \"{schema}\".messages IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut admin).await.unwrap();
    let (answer, ()) = tokio::join!(process.chat("acme", "last words"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        process.process.terminate();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(process.health("/readyz").await, (503, "draining\n".to_owned()));
        sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.unwrap();
    });
    assert_eq!(answer.0, 200);
    assert!(process.process.ended().await.unwrap().success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("ignored the deletion"), "{log}");
    assert!(!log.contains(crate::setup::CELL_PASSWORD), "no secret in the log");
}
