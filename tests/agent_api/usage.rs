//! What a row of usage says: enough to price it and to find the request at the client, and not who an erased user was.

use super::{
    in_process::{Answer, InProcessApi, agent, token, token_with},
    process::eventually,
};
use crate::setup::{self, on_both};
use axum::{Json, Router, http::Method, http::StatusCode, response::IntoResponse, routing::post};
use devkit::PgVersion;
use serde_json::{Value, json};

on_both!(
    usage_names_the_model_and_the_clients_request,
    a_schema_of_the_version_before_is_served_exported_and_erased,
    a_user_is_found_by_an_index,
);

/// `acme` with a provider that names its model with a zero byte, or none, or fails: as the message says.
async fn api(version: PgVersion) -> InProcessApi {
    let complete = post(async |Json(body): Json<Value>| {
        let named = match body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap() {
            "fail" => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            "nameless" => Value::Null,
            "long" => "m".repeat(10_000).into(),
            _ => "gpt-x-\u{0}2026".into(),
        };
        Json(json!({"model": named, "choices": [{"message": {"content": "fine"}}]})).into_response()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/chat/completions", complete);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
    let mut agent = agent("a1");
    agent["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
    agent["current"]["behaviour"]["model"] = json!("gpt-x");
    api.apply("agent-a1", &agent).await;
    api.settled().await;
    api
}

/// A chat of `ann` with a request id of her own.
async fn chat(api: &InProcessApi, message: &str, id: Option<&str>) -> Answer {
    let body = json!({"message": message});
    let mut request = api.request(Method::POST, "/api/v1/tenants/acme/chat", Some(&token("acme", "ann")), Some(&body));
    if let Some(id) = id {
        request.headers_mut().insert("x-request-id", id.parse().unwrap());
    }
    api.send(request).await
}

/// The usage that an export contains: outcome, model, the client's id, whether it is ann's.
async fn usage(api: &InProcessApi) -> Vec<(String, Value, Value, bool)> {
    let right = token_with("acme", "admin", |token| token.scope("data:export"));
    let (mut rows, mut next) = (Vec::new(), Some(String::new()));
    while let Some(cursor) = next {
        let path = format!("/api/v1/tenants/acme/export{cursor}");
        let text = api.text(api.request(Method::GET, &path, Some(&right), None)).await;
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let end = lines.pop().unwrap();
        assert_eq!(end["type"], "page", "{end}");
        next = end["next"].as_str().map(|cursor| format!("?cursor={cursor}"));
        rows.extend(lines.into_iter().filter(|line| line["type"] == "usage"));
    }
    let rows = rows.into_iter();
    rows.map(|mut row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let (outcome, is_anns) = (text("outcome"), row["sub"] == "ann");
        (outcome, row["model"].take(), row["clientRequestId"].take(), is_anns)
    })
    .collect()
}

async fn erase_ann(api: &InProcessApi) {
    let right = token_with("acme", "admin", |token| token.scope("data:erase"));
    api.send(api.request(Method::DELETE, "/api/v1/tenants/acme/users/ann", Some(&right), None)).await.ok();
}

async fn usage_names_the_model_and_the_clients_request(version: PgVersion) {
    let api = api(version).await;
    let answer = chat(&api, "hello", Some("order-7")).await.ok();
    assert_eq!((&answer["model"], &answer["requestId"]), (&json!("gpt-x-2026"), &json!("order-7")));
    chat(&api, "nameless", None).await.ok();
    assert_eq!(chat(&api, "long", None).await.ok()["model"].as_str().unwrap().len(), 256);
    // An id that could break a log line is none.
    assert_eq!(chat(&api, "fail", Some("no good")).await.status, 502);
    assert_eq!(chat(&api, "fail", Some("order-8")).await.status, 502);
    let all = "SELECT count(*) FROM {schema}.usage";
    eventually("all are counted", async || api.count("acme", all).await == 5).await;
    let row = |outcome: &str, model: &str, id: Option<&str>| (outcome.to_owned(), json!(model), json!(id), true);
    let wanted = [
        row("ok", "gpt-x-2026", Some("order-7")),
        row("ok", "gpt-x", None),
        row("ok", &"m".repeat(256), None),
        row("failed", "gpt-x", None),
        row("failed", "gpt-x", Some("order-8")),
    ];
    assert_eq!(usage(&api).await, wanted);

    erase_ann(&api).await;
    let erased = wanted.map(|(outcome, model, _, _)| (outcome, model, Value::Null, false));
    assert_eq!(usage(&api).await, erased, "the client's ids might name the user");
}

async fn a_schema_of_the_version_before_is_served_exported_and_erased(version: PgVersion) {
    let mut api = api(version).await;
    let schema = setup::tenant_id("acme").database_name(&api.instance.prefix);
    api.instance
        .as_admin(&format!("ALTER TABLE \"{schema}\".usage DROP COLUMN model, DROP COLUMN client_request_id"))
        .await;
    let mut entry = api.tenant("acme");
    entry["database"]["schemaVersion"] = json!(3);
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    chat(&api, "hello", Some("order-7")).await.ok();
    assert_eq!(chat(&api, "fail", Some("order-8")).await.status, 502);
    let all = "SELECT count(*) FROM {schema}.usage";
    eventually("both are counted", async || api.count("acme", all).await == 2).await;
    let row = |outcome: &str, is_anns| (outcome.to_owned(), Value::Null, Value::Null, is_anns);
    assert_eq!(usage(&api).await, [row("ok", true), row("failed", true)]);
    erase_ann(&api).await;
    assert_eq!(usage(&api).await, [row("ok", false), row("failed", false)]);
}

/// Each step of an erasure reads the rows of one user, not the table.
async fn a_user_is_found_by_an_index(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme"], |_| {}).await;
    let schema = setup::tenant_id("acme").database_name(&api.instance.prefix);
    let fill = "INSERT INTO conversations (id, sub) SELECT gen_random_uuid(), 'u' || n FROM generate_series(1, 20000) n; \
        INSERT INTO usage (request_id, sub, agent, agent_uid, revision, input_tokens, output_tokens, outcome) \
          SELECT gen_random_uuid(), 'u' || n, 'support', 'a1', 1, 1, 1, 'ok' FROM generate_series(1, 20000) n; \
        ANALYZE conversations, usage; \
        CREATE TABLE plans (line text); \
        DO $$ DECLARE line text; BEGIN \
          FOR line IN EXPLAIN SELECT request_id FROM usage WHERE sub = 'u7' LIMIT 5000 LOOP \
            INSERT INTO plans VALUES (line); END LOOP; \
          FOR line IN EXPLAIN SELECT id FROM conversations WHERE sub = 'u7' ORDER BY id LIMIT 50 LOOP \
            INSERT INTO plans VALUES (line); END LOOP; END $$";
    api.instance.as_admin(&format!("SET search_path = \"{schema}\"; {fill}")).await;
    for (plans, wanted) in [("usage_by_sub", 1), ("conversations_by_sub", 1), ("Seq Scan", 0)] {
        let count = format!("SELECT count(*) FROM {{schema}}.plans WHERE line LIKE '%{plans}%'");
        assert_eq!(api.count("acme", &count).await, wanted, "{plans}");
    }
}
