//! Settings: effective values with their source, changes within bounds, at work in the next chat.

use super::in_process::{Answer, InProcessApi, settings_token, token};
use crate::setup::on_both;
use axum::http::Method;
use devkit::PgVersion;
use serde_json::{Value, json};

on_both!(a_tenant_changes_what_it_may_and_sees_who_set_what,);

async fn put(api: &InProcessApi, body: Value) -> Answer {
    let path = "/api/v1/tenants/acme/settings";
    api.send(api.request(Method::PUT, path, Some(&settings_token("acme", "ann")), Some(&body))).await
}

async fn a_tenant_changes_what_it_may_and_sees_who_set_what(version: PgVersion) {
    let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
    let mut agent = super::in_process::agent("a2");
    agent["current"]["behaviour"]["model"] = json!("echo-sales");
    api.apply("agent-a2", &agent).await;
    let mut entry = api.tenant("acme");
    entry["mutable"] = json!(["DefaultAgent", "Temperature", "MaxOutputTokens", "Instructions"]);
    entry["agents"] = json!({
        "support": {"configUid": "a1", "overrides": {"temperature": "0.2", "topP": "0.9", "maxOutputTokens": 100}},
        "sales": {"configUid": "a2"},
    });
    api.apply("tenant-acme", &entry).await;
    api.settled().await;

    let before = api.get("/api/v1/tenants/acme/settings", &settings_token("acme", "ann")).await.ok();
    assert_eq!(before["defaultAgent"], json!({"value": "support", "source": "Tenant", "locked": false}));
    let support = &before["agents"]["support"];
    assert_eq!(support["temperature"], json!({"value": "0.2", "source": "Tenant", "locked": false}));
    assert_eq!(support["topP"], json!({"value": "0.9", "source": "Tenant", "locked": true}));
    assert_eq!(support["maxOutputTokens"], json!({"value": 100, "source": "Tenant", "locked": false}));
    assert_eq!(support["model"], json!({"value": "echo-1", "source": "AgentConfig", "locked": true}));
    assert_eq!(
        before["agents"]["sales"]["temperature"],
        json!({"value": null, "source": "AgentConfig", "locked": false})
    );

    let change = json!({
        "defaultAgent": "sales", "temperature": 0.5, "maxOutputTokens": 500, "instructions": "Answer in rhymes.",
    });
    let after = put(&api, change).await.ok();
    assert_eq!(after, api.get("/api/v1/tenants/acme/settings", &settings_token("acme", "bob")).await.ok());
    assert_eq!(after["defaultAgent"], json!({"value": "sales", "source": "TenantSetting", "locked": false}));
    assert_eq!(after["agents"]["support"]["maxOutputTokens"]["value"], 100);
    assert_eq!(after["agents"]["sales"]["maxOutputTokens"]["value"], 500);
    let answer = api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
    let text = answer["message"].as_str().unwrap();
    assert_eq!(answer["agent"], "sales");
    assert!(text.contains("temperature=0.5 topP=default maxOutputTokens=500"), "{text}");
    assert!(text.ends_with("system: Be kind.\n\nAnswer in rhymes."), "{text}");

    let back = put(&api, json!({"defaultAgent": null, "temperature": null, "instructions": null})).await.ok();
    assert_eq!(back["defaultAgent"]["source"], "Tenant");
    assert_eq!(back["agents"]["support"], support.clone());

    for (body, code, field) in [
        (json!({"topP": "0.5"}), "setting_locked", "topP"),
        (json!({"temperature": "3"}), "invalid_field", "temperature"),
        (json!({"maxOutputTokens": 1001}), "invalid_field", "maxOutputTokens"),
        (json!({"temperature": "0.1", "model": "x"}), "invalid_field", "model"),
    ] {
        let answer = put(&api, body).await;
        assert_eq!((answer.status.as_u16(), answer.code(), &answer.body["field"]), (422, code, &json!(field)));
    }
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.settings").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_token_without_scope_reaches_the_users_chat_alone() {
    let mut api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let mut entry = api.tenant("acme");
    entry["mutable"] = json!(["Instructions"]);
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    let user = token("acme", "mallory");
    let root = "/api/v1/tenants/acme";
    let rewrite = json!({"instructions": "Answer as Mallory wants."});
    let put = api.send(api.request(Method::PUT, &format!("{root}/settings"), Some(&user), Some(&rewrite))).await;
    assert_eq!((put.status.as_u16(), put.code()), (403, "insufficient_scope"));
    for path in ["settings", "export"] {
        let answer = api.get(&format!("{root}/{path}"), &user).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "insufficient_scope"), "{path}");
    }
    api.chat("acme", "mallory", &json!({"message": "hi"})).await.ok();
    api.get(&format!("{root}/chat"), &user).await.ok();
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.settings").await, 0);
}
