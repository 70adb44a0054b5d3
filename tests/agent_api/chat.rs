//! Conversations: each tenant and each user for itself, pages of history, the tenant's own settings at work.

use super::in_process::{InProcessApi, token};
use crate::setup::on_both;
use devkit::PgVersion;
use serde_json::{Value, json};

on_both!(every_tenant_has_its_own_messages_and_every_user_too, history_comes_in_pages_and_cursors_fit_one_query_only,);

async fn every_tenant_has_its_own_messages_and_every_user_too(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme", "beta"], |_| {}).await;
    let first = api.chat("acme", "ann", &json!({"message": "one two three"})).await.ok();
    assert!(first["message"].as_str().unwrap().starts_with("echo: one two three\nmodel: echo-1\nrevision: 1\n"));
    assert!(first["message"].as_str().unwrap().ends_with("system: Be kind."));
    assert_eq!(
        (&first["agent"], &first["revision"], &first["model"]),
        (&json!("support"), &json!(1), &json!("echo-1"))
    );
    assert_eq!(first["usage"]["inputTokens"], 5);
    let conversation = first["conversationId"].clone();
    let second = json!({"message": "four", "conversationId": conversation, "agent": "support"});
    let second = api.chat("acme", "ann", &second).await.ok();
    assert!(second["message"].as_str().unwrap().contains("history: 2 messages"));
    api.chat("beta", "ann", &json!({"message": "elsewhere"})).await.ok();

    // Another user, and another tenant's user of the same name, have no such conversation.
    for (tenant, sub) in [("acme", "bob"), ("beta", "ann")] {
        let answer = api.chat(tenant, sub, &json!({"message": "mine?", "conversationId": conversation})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "conversation_not_found"));
    }
    let history = |tenant: &'static str, sub: &'static str| {
        let token = token(tenant, sub);
        let api = &api;
        async move { api.get(&format!("/api/v1/tenants/{tenant}/chat?order=asc"), &token).await.ok() }
    };
    let texts = |page: Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap().clone();
        messages.iter().map(|m| format!("{} {}", m["role"].as_str().unwrap(), m["status"].as_str().unwrap())).collect()
    };
    let acme = texts(history("acme", "ann").await);
    assert_eq!(acme, ["user answered", "assistant complete", "user answered", "assistant complete"]);
    assert_eq!(texts(history("beta", "ann").await).len(), 2);
    assert!(texts(history("acme", "bob").await).is_empty());
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.usage WHERE outcome = 'ok'").await, 2);
    assert_eq!(api.count("beta", "SELECT count(*) FROM {schema}.messages").await, 2);
}

async fn history_comes_in_pages_and_cursors_fit_one_query_only(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme"], |_| {}).await;
    let mut conversation = Value::Null;
    for n in 0..5 {
        let answer = api.chat("acme", "ann", &json!({"message": format!("m{n}")})).await.ok();
        conversation = answer["conversationId"].clone();
    }
    let token = token("acme", "ann");
    for order in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("/api/v1/tenants/acme/chat?limit=3&order={order}{cursor}"), &token).await.ok();
            seen.extend(page["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()));
            assert_eq!(page["hasMore"], !page["next"].is_null());
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let mut sorted = seen.clone();
        sorted.sort();
        if order == "desc" {
            sorted.reverse();
        }
        assert_eq!((seen.len(), &seen), (10, &sorted));
    }
    let conversation = conversation.as_str().unwrap();
    let only = api.get(&format!("/api/v1/tenants/acme/chat?conversationId={conversation}"), &token).await.ok();
    assert_eq!(only["messages"].as_array().unwrap().len(), 2);
    let page = api.get("/api/v1/tenants/acme/chat?limit=3", &token).await.ok();
    let cursor = page["next"].as_str().unwrap();
    for (query, field) in [
        (format!("cursor={cursor}&order=asc"), "cursor"),
        (format!("cursor={cursor}&conversationId={conversation}"), "cursor"),
        ("cursor=AAAA".into(), "cursor"),
        ("limit=0".into(), "limit"),
        ("limit=201".into(), "limit"),
        ("limit=many".into(), "limit"),
        ("order=random".into(), "order"),
        ("pages=2".into(), "pages"),
    ] {
        let answer = api.get(&format!("/api/v1/tenants/acme/chat?{query}"), &token).await;
        assert_eq!(
            (answer.code(), &answer.body["field"]),
            ("invalid_field", &json!(field)),
            "{query}: {}",
            answer.body
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_agent_answers_at_once_without_touching_its_tenants() {
    let mut api = InProcessApi::with_tenants(&["acme", "beta"], |_| {}).await;
    let mut agent = super::in_process::agent("a1");
    agent["current"]["number"] = json!(2);
    agent["current"]["behaviour"]["model"] = json!("echo-2");
    api.apply("agent-a1", &agent).await;
    api.settled().await;
    for tenant in ["acme", "beta"] {
        let answer = api.chat(tenant, "ann", &json!({"message": "hi"})).await.ok();
        assert_eq!((&answer["revision"], &answer["model"]), (&json!(2), &json!("echo-2")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_wrong_is_named() {
    let api = InProcessApi::with_tenants(&["acme"], |s| s.limits.body_bytes = 1024).await;
    for (body, status, code, field) in [
        (json!({"message": ""}), 422, "invalid_field", json!("message")),
        (json!({"message": "a\u{0}b"}), 422, "invalid_field", json!("message")),
        (json!({"mesage": "a"}), 422, "invalid_field", json!("mesage")),
        (json!({"message": "a", "agent": "sales"}), 422, "invalid_field", json!("agent")),
        (json!({"message": "a", "conversationId": "7"}), 422, "invalid_field", Value::Null),
        (json!({}), 422, "invalid_field", json!("message")),
        (json!({"message": "a".repeat(2000)}), 413, "body_too_large", Value::Null),
    ] {
        let answer = api.chat("acme", "ann", &body).await;
        let got = (answer.status.as_u16(), answer.code(), &answer.body["field"]);
        assert_eq!(got, (status, code, &field), "{body}: {}", answer.body);
    }
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 0);
}
