//! The agent API behind a real pgbouncer in transaction mode, with tenants that share one server connection.

use super::in_process::{InProcessApi, settings_token};
use crate::setup::{in_use, on_both};
use axum::http::Method;
use devkit::{PgBouncer, PgVersion};
use serde_json::{Value, json};

on_both!(tenants_take_turns_on_one_connection, nothing_of_a_failed_transaction_is_left_on_the_connection);

const TENANTS: [&str; 2] = ["acme", "beta"];

/// Two tenants of one cell; the pooler has one server connection for the cell's login.
async fn api(version: PgVersion) -> (InProcessApi, PgBouncer) {
    let mut instance = in_use(version).await;
    let pooler = PgBouncer::start(&instance.test, instance.prefix.as_str(), 1).await.unwrap();
    instance.test.port = pooler.port();
    // Debian 12's pgbouncer knows no prepared statements.
    let api = InProcessApi::in_instance(instance, &TENANTS, |settings| settings.database.prepared_statements = false);
    (api.await, pooler)
}

async fn conversation(api: &InProcessApi, tenant: &str, user: usize) {
    let (sub, mut conversation) = (format!("user-{user}"), Value::Null);
    for n in 0..4 {
        let mut body = json!({ "message": format!("{tenant} {user} {n}") });
        if !conversation.is_null() {
            body["conversationId"] = conversation.clone();
        }
        let answer = api.chat(tenant, &sub, &body).await.ok();
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("echo: {tenant} {user} {n}\n")), "{message}");
        assert!(n == 0 || message.contains(&format!("history: {} messages", 2 * n)), "{message}");
        conversation = answer["conversationId"].clone();
        let path = format!("/api/v1/tenants/{tenant}/settings");
        let settings = api.get(&path, &settings_token(tenant, &sub)).await.ok();
        assert_eq!(settings["agents"]["support"]["instructions"]["value"], json!(format!("I am {tenant}.")));
    }
    let path = format!("/api/v1/tenants/{tenant}/chat?order=asc&limit=50");
    let page = api.get(&path, &settings_token(tenant, &sub)).await.ok();
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 8);
    for message in messages {
        assert!(message["content"].as_str().unwrap().contains(&format!("{tenant} {user} ")), "{message}");
    }
}

async fn tenants_take_turns_on_one_connection(version: PgVersion) {
    let (mut api, _pooler) = api(version).await;
    for tenant in TENANTS {
        let mut entry = api.tenant(tenant);
        entry["mutable"] = json!(["Instructions"]);
        api.apply(&format!("tenant-{tenant}"), &entry).await;
        api.settled().await;
        let path = format!("/api/v1/tenants/{tenant}/settings");
        let body = json!({ "instructions": format!("I am {tenant}.") });
        api.send(api.request(Method::PUT, &path, Some(&settings_token(tenant, "ann")), Some(&body))).await.ok();
    }
    let all = (0..10).map(|n| conversation(&api, TENANTS[n % 2], n));
    futures::future::join_all(all).await;
    let login = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE '{}\\_acc\\_%'",
        api.instance.prefix
    );
    assert_eq!(api.instance.count(&login).await, 1, "all of it went over one server connection");
    for tenant in TENANTS {
        assert_eq!(api.count(tenant, "SELECT count(*) FROM {schema}.messages").await, 40);
        let foreign = format!("SELECT count(*) FROM {{schema}}.messages WHERE content NOT LIKE '%{tenant}%'");
        assert_eq!(api.count(tenant, &foreign).await, 0);
    }
}

async fn nothing_of_a_failed_transaction_is_left_on_the_connection(version: PgVersion) {
    let (api, _pooler) = api(version).await;
    let schema = crate::setup::tenant_id("acme").database_name(&api.instance.prefix);
    api.chat("acme", "ann", &json!({"message": "before"})).await.ok();
    api.instance.as_admin(&format!("REVOKE INSERT ON \"{schema}\".messages FROM \"{schema}\"")).await;
    let calls = (0..6).map(|n| {
        let api = &api;
        async move {
            let tenant = TENANTS[n % 2];
            (tenant, api.chat(tenant, "ann", &json!({"message": "meanwhile"})).await.status.as_u16())
        }
    });
    for (tenant, status) in futures::future::join_all(calls).await {
        assert_eq!(status == 200, tenant == "beta", "{tenant}: {status}");
    }
    api.instance.as_admin(&format!("GRANT INSERT ON \"{schema}\".messages TO \"{schema}\"")).await;
    api.chat("acme", "ann", &json!({"message": "after"})).await.ok();
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 4);
    assert_eq!(api.count("beta", "SELECT count(*) FROM {schema}.messages").await, 6);
}
