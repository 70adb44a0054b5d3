//! The agent API behind a real pgbouncer in transaction mode, with tenants that take turns on one server connection.

use super::stage::{Stage, token};
use crate::setup::{in_use, on_both};
use axum::http::Method;
use devkit::{PgBouncer, PgVersion};
use serde_json::{Value, json};

on_both!(tenants_take_turns_on_one_connection, nothing_of_a_failed_transaction_is_left_on_the_connection);

const TENANTS: [&str; 2] = ["acme", "beta"];

/// Two tenants of one cell; the pooler has one server connection for the cell's login.
async fn stage(version: PgVersion) -> (Stage, PgBouncer) {
    let mut instance = in_use(version).await;
    let pooler = PgBouncer::start(&instance.test, instance.prefix.as_str(), 1).await.unwrap();
    instance.test.port = pooler.port();
    // Debian 12's pgbouncer knows no prepared statements.
    let stage = Stage::in_instance(instance, &TENANTS, |settings| settings.database.prepared_statements = false);
    (stage.await, pooler)
}

async fn conversation(stage: &Stage, tenant: &str, user: usize) {
    let (sub, mut conversation) = (format!("user-{user}"), Value::Null);
    for n in 0..4 {
        let mut body = json!({ "message": format!("{tenant} {user} {n}") });
        if !conversation.is_null() {
            body["conversationId"] = conversation.clone();
        }
        let answer = stage.chat(tenant, &sub, &body).await.ok();
        let told = answer["message"].as_str().unwrap();
        assert!(told.starts_with(&format!("echo: {tenant} {user} {n}\n")), "{told}");
        assert!(n == 0 || told.contains(&format!("history: {} messages", 2 * n)), "{told}");
        conversation = answer["conversationId"].clone();
        let path = format!("/api/v1/tenants/{tenant}/settings");
        let settings = stage.get(&path, &token(tenant, &sub)).await.ok();
        assert_eq!(settings["agents"]["support"]["instructions"]["value"], json!(format!("I am {tenant}.")));
    }
    let path = format!("/api/v1/tenants/{tenant}/chat?order=asc&limit=50");
    let page = stage.get(&path, &token(tenant, &sub)).await.ok();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 8);
    for message in messages {
        assert!(message["content"].as_str().unwrap().contains(&format!("{tenant} {user} ")), "{message}");
    }
}

async fn tenants_take_turns_on_one_connection(version: PgVersion) {
    let (mut stage, _pooler) = stage(version).await;
    for tenant in TENANTS {
        let mut entry = stage.tenant(tenant);
        entry["mutable"] = json!(["Instructions"]);
        stage.apply(&format!("tenant-{tenant}"), &entry).await;
        stage.settled().await;
        let path = format!("/api/v1/tenants/{tenant}/settings");
        let body = json!({ "instructions": format!("I am {tenant}.") });
        stage.send(stage.request(Method::PUT, &path, Some(&token(tenant, "ann")), Some(&body))).await.ok();
    }
    let all = (0..10).map(|n| conversation(&stage, TENANTS[n % 2], n));
    futures::future::join_all(all).await;
    let login = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE '{}\\_acc\\_%'",
        stage.instance.prefix
    );
    assert_eq!(stage.instance.count(&login).await, 1, "all of it went over one server connection");
    for tenant in TENANTS {
        assert_eq!(stage.count(tenant, "SELECT count(*) FROM {schema}.messages").await, 40);
        let foreign = format!("SELECT count(*) FROM {{schema}}.messages WHERE content NOT LIKE '%{tenant}%'");
        assert_eq!(stage.count(tenant, &foreign).await, 0);
    }
}

async fn nothing_of_a_failed_transaction_is_left_on_the_connection(version: PgVersion) {
    let (stage, _pooler) = stage(version).await;
    let schema = crate::setup::tenant_id("acme").database_name(&stage.instance.prefix);
    stage.chat("acme", "ann", &json!({"message": "before"})).await.ok();
    stage.instance.as_admin(&format!("REVOKE INSERT ON \"{schema}\".messages FROM \"{schema}\"")).await;
    let calls = (0..6).map(|n| {
        let stage = &stage;
        async move {
            let tenant = TENANTS[n % 2];
            (tenant, stage.chat(tenant, "ann", &json!({"message": "meanwhile"})).await.status.as_u16())
        }
    });
    for (tenant, status) in futures::future::join_all(calls).await {
        assert_eq!(status == 200, tenant == "beta", "{tenant}: {status}");
    }
    stage.instance.as_admin(&format!("GRANT INSERT ON \"{schema}\".messages TO \"{schema}\"")).await;
    stage.chat("acme", "ann", &json!({"message": "after"})).await.ok();
    assert_eq!(stage.count("acme", "SELECT count(*) FROM {schema}.messages").await, 4);
    assert_eq!(stage.count("beta", "SELECT count(*) FROM {schema}.messages").await, 6);
}
