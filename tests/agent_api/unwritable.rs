//! A database that takes no writes for a while: read-only after a failover, or with a full disk.

use super::in_process::{Answer, InProcessApi, token};
use serde_json::json;

/// Chat answers 503 during the harm, reading goes on, and the first chat after the repair succeeds.
async fn answers_503_and_recovers_at_once(api: &InProcessApi, harm: &str, repair: &str) {
    let hello = json!({"message": "hi"});
    let unavailable = |answer: Answer| {
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "database_unavailable"), "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    };
    api.chat("acme", "ann", &hello).await.ok();
    api.instance.as_admin(harm).await;
    for _ in 0..3 {
        unavailable(api.chat("acme", "ann", &hello).await);
    }
    // What only reads goes on.
    api.get("/api/v1/tenants/acme/chat", &token("acme", "ann")).await.ok();
    api.instance.as_admin(repair).await;
    api.chat("acme", "ann", &hello).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let login = format!("{}_acc_1_a", api.instance.prefix);
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}'");
    let harm = format!("ALTER ROLE {login} SET default_transaction_read_only = on; {end}");
    let repair = format!("ALTER ROLE {login} RESET default_transaction_read_only");
    answers_503_and_recovers_at_once(&api, &harm, &repair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let table = format!("\"{}_acme\".messages", api.instance.prefix);
    let harm = format!(
        "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION public.full_disk()"
    );
    answers_503_and_recovers_at_once(&api, &harm, &format!("DROP TRIGGER full_disk ON {table}")).await;
}
