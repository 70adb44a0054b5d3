//! An environment that a test started: how fast it is ready, and stopping its parts.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use devkit::{Environment, Options, PgVersion, Postgres};
use sqlx::Connection as _;

async fn tables(server: &Postgres) -> anyhow::Result<i64> {
    let mut connection = sqlx::PgConnection::connect(&server.superuser_url("postgres")).await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut connection)
        .await?)
}

async fn make_table(server: &Postgres) {
    let mut connection = sqlx::PgConnection::connect(&server.superuser_url("postgres")).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (id int8)").execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn it_is_up_within_seconds_and_the_api_server_comes_back_with_its_data() {
    // Everything is found or built before the time is measured.
    drop(Environment::start(Options { control_plane: false, ..Options::default() }).await.unwrap());
    let start = Instant::now();
    let env = Environment::start(Options::default()).await.unwrap();
    println!("up after {:.1} s", start.elapsed().as_secs_f32());
    assert!(start.elapsed() < Duration::from_secs(60));

    env.kubectl(&["create", "configmap", "kept"]).await.unwrap().ok().unwrap();
    let apiserver = env.apiserver().unwrap();
    apiserver.kill().await.unwrap();
    assert!(!env.kubectl(&["get", "configmap", "kept"]).await.unwrap().is_success());
    let start = Instant::now();
    apiserver.start_again().await.unwrap();
    println!("API server back after {:.1} s", start.elapsed().as_secs_f32());
    env.kubectl(&["get", "configmap", "kept"]).await.unwrap().ok().unwrap();

    apiserver.pause().await;
    assert!(!env.kubectl(&["get", "configmap", "kept", "--request-timeout=1s"]).await.unwrap().is_success());
    apiserver.resume().await;
    env.kubectl(&["get", "configmap", "kept"]).await.unwrap().ok().unwrap();

    let folder = env.file().1.parent().unwrap().to_owned();
    env.stop().await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_killed_server_keeps_what_was_committed() {
    let server = Postgres::start(PgVersion::NEWEST).await.unwrap();
    make_table(&server).await;
    server.kill().await.unwrap();
    assert!(tables(&server).await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(tables(&server).await.unwrap(), 1);
    server.stop_immediate().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(tables(&server).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_is_replaced_with_an_empty_one_and_back() {
    let server = Postgres::start(PgVersion::OLDEST).await.unwrap();
    make_table(&server).await;
    server.replace_with_empty_cluster().await.unwrap();
    assert_eq!(tables(&server).await.unwrap(), 0);
    server.put_back_cluster().await.unwrap();
    assert_eq!(tables(&server).await.unwrap(), 1);
}

#[tokio::test]
async fn a_shared_server_can_not_be_stopped_by_one_test() {
    let shared = Postgres::shared(PgVersion::OLDEST).await.unwrap();
    if std::env::var_os("DEVKIT_ENV").is_some() {
        let refusal = shared.stop_immediate().await.unwrap_err().to_string();
        assert!(refusal.starts_with("this server belongs to the whole test run"), "{refusal}");
    } else {
        // Without a run it is this process's own, and shared by its tests all the same.
        assert_eq!(shared.port(), Postgres::shared(PgVersion::OLDEST).await.unwrap().port());
    }
}
