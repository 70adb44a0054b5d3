//! The provider `OpenAICompatible` against a real local server that notes what it got.

use super::{
    in_process::{InProcessApi, agent, token, token_with},
    process::eventually,
};
use crate::setup::{self, Steps as _};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

const API_KEY: &str = "sk-canary-0123456789";

/// What the provider was asked, and a permit for each answer to "later".
struct Provider {
    requests: Mutex<Vec<(Option<String>, Value)>>,
    later: Semaphore,
}

type Notes = Arc<Provider>;

impl Provider {
    fn new() -> Notes {
        Arc::new(Self { requests: Mutex::default(), later: Semaphore::new(0) })
    }

    async fn is_asked(&self) {
        eventually("the provider is asked", async || !self.requests.lock().unwrap().is_empty()).await;
    }

    /// Lets one answer to "later" go out.
    fn answer_now(&self) {
        self.later.add_permits(1);
    }
}

async fn complete(State(notes): State<Notes>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let bearer = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    notes.requests.lock().unwrap().push((bearer, body.clone()));
    let message = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    if message == "later" {
        notes.later.acquire().await.unwrap().forget();
    }
    match message.as_str() {
        "fail" => (StatusCode::INTERNAL_SERVER_ERROR, "secret words of the provider").into_response(),
        "refuse" => (StatusCode::UNAUTHORIZED, "bad key sk-canary").into_response(),
        "limit" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "17")]).into_response(),
        "redirect" => Redirect::temporary("http://169.254.169.254/").into_response(),
        "nonsense" => "not json".into_response(),
        "huge" => "x".repeat(2 << 20).into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            StatusCode::OK.into_response()
        }
        "uncounted" => Json(json!({"choices": [{"message": {"content": "four words in here"}}]})).into_response(),
        _ => Json(json!({
            "model": "gpt-x-2026", "usage": {"prompt_tokens": 11, "completion_tokens": 7},
            "choices": [{"message": {"role": "assistant", "content": format!("you wrote {message}")}}],
        }))
        .into_response(),
    }
}

async fn api() -> (InProcessApi, Notes) {
    api_with_timeout(30).await
}

async fn api_with_timeout(seconds: u32) -> (InProcessApi, Notes) {
    let notes = Provider::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&notes));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut api = InProcessApi::with_tenants(&["acme"], |s| s.limits.upstream_bytes = 1 << 20).await;
    let key = BASE64_STANDARD.encode(API_KEY);
    api.apply("upstream-h1", &json!({"format": 1, "hash": "h1", "apiKey": key})).await;
    let mut agent = agent("a1");
    agent["current"]["upstream"] = json!("h1");
    let behaviour = &mut agent["current"]["behaviour"];
    behaviour["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
    behaviour["model"] = json!("gpt-x");
    behaviour["temperature"] = json!("0.3");
    behaviour["stop"] = json!(["END"]);
    behaviour["seed"] = json!(42);
    behaviour["totalTimeoutSeconds"] = json!(seconds);
    api.apply("agent-a1", &agent).await;
    api.settled().await;
    (api, notes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_gets_the_configuration_and_the_conversation() {
    let (api, notes) = api().await;
    let first = api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    assert_eq!((&first["message"], &first["model"]), (&json!("you wrote hello"), &json!("gpt-x-2026")));
    assert_eq!(first["usage"], json!({"inputTokens": 11, "outputTokens": 7}));
    let next = json!({"message": "again", "conversationId": first["conversationId"]});
    api.chat("acme", "ann", &next).await.ok();
    let (bearer, body) = notes.requests.lock().unwrap().last().cloned().unwrap();
    assert_eq!(bearer, Some(format!("Bearer {API_KEY}")));
    let wanted = json!({
        "model": "gpt-x", "temperature": 0.3, "max_tokens": 1000, "stop": ["END"], "seed": 42, "stream": false,
        "messages": [
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "you wrote hello"}, {"role": "user", "content": "again"},
        ],
    });
    assert_eq!(body, wanted);
    assert_eq!(api.chat("acme", "ann", &json!({"message": "uncounted"})).await.ok()["usage"]["outputTokens"], 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_provider_is_reported_without_its_words_and_counted() {
    let (api, _notes) = api_with_timeout(1).await;
    for (message, status, code) in [
        ("fail", 502, "upstream_failed"),
        ("refuse", 502, "upstream_credential_refused"),
        ("limit", 429, "upstream_rate_limited"),
        ("redirect", 502, "upstream_failed"),
        ("nonsense", 502, "upstream_failed"),
        ("huge", 502, "upstream_failed"),
        ("slow", 504, "upstream_timeout"),
    ] {
        let answer = api.chat("acme", "ann", &json!({"message": message})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{message}");
        let text = answer.body.to_string();
        assert!(!text.contains("secret words") && !text.contains("canary"), "{text}");
        assert_eq!(answer.headers.get("retry-after").is_some_and(|seconds| seconds == "17"), status == 429);
    }
    eventually("all is counted", async || {
        api.count("acme", "SELECT count(*) FROM {schema}.usage WHERE outcome = 'failed'").await == 7
    })
    .await;
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages WHERE status = 'failed'").await, 7);
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 7);
}

/// Neither the answer nor the user is stored any more; the answer is counted, and the client gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_user_was_erased() {
    for (message, seconds, status, outcome) in [("later", 30, 200, "ok"), ("slow", 3, 504, "failed")] {
        let (api, notes) = api_with_timeout(seconds).await;
        assert_eq!(erased_while_asking(&api, &notes, message).await, status);
        let counted = async |rows: &str| api.count("acme", &format!("SELECT count(*) FROM {{schema}}.{rows}")).await;
        assert_eq!(counted("messages").await, 0);
        eventually("it is counted", async || counted(&format!("usage WHERE outcome = '{outcome}'")).await == 1).await;
        assert_eq!(counted("usage WHERE sub NOT LIKE 'erased-%'").await, 0, "{message}");
    }
}

/// Asks in Ann's name, erases her before the answer comes, and returns its status.
async fn erased_while_asking(api: &InProcessApi, notes: &Notes, message: &str) -> u16 {
    let address = api.listen().await;
    let url = format!("http://{address}/api/v1/tenants/acme");
    let asked = reqwest::Client::new().post(format!("{url}/chat")).bearer_auth(token("acme", "ann"));
    let asked = tokio::spawn(asked.json(&json!({"message": message})).send());
    notes.is_asked().await;
    let right = token_with("acme", "admin", |token| token.scope("data:erase"));
    let erased = reqwest::Client::new().delete(format!("{url}/users/ann")).bearer_auth(right).send().await.unwrap();
    assert_eq!(erased.json::<Value>().await.unwrap(), json!({"conversations": 1, "messages": 1, "renamed": 0}));
    notes.answer_now();
    asked.await.unwrap().unwrap().status().as_u16()
}

/// A transaction in the tenant's schema that has got so far.
async fn within(api: &InProcessApi, sql: &str) -> sqlx::PgConnection {
    let mut admin = api.instance.admin().await;
    let schema = setup::tenant_id("acme").database_name(&api.instance.prefix);
    let sql = format!("SET search_path = \"{schema}\"; BEGIN; {sql}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    admin
}

/// Until a statement of the tenant waits for a row that somebody else holds.
async fn somebody_waits(api: &InProcessApi) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("a statement waits for a row", async || api.instance.count(waiting).await > 0).await;
}

/// Neither waits for a lock of the other: answering and erasing both lock the conversation first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_stored_while_the_user_is_erased() {
    let (api, notes) = api().await;
    let url = format!("http://{}/api/v1/tenants/acme/chat", api.listen().await);
    let asked = reqwest::Client::new().post(url).bearer_auth(token("acme", "ann"));
    let asked = tokio::spawn(asked.json(&json!({"message": "later"})).send());
    notes.is_asked().await;
    // A DELETE locks the conversation, and then its messages.
    let mut admin = within(&api, "SELECT FROM conversations FOR UPDATE").await;
    notes.answer_now();
    somebody_waits(&api).await;
    sqlx::raw_sql("DELETE FROM conversations; COMMIT").execute(&mut admin).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 0);
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.usage WHERE outcome = 'ok'").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_in_a_conversation_that_is_being_erased_is_answered_404() {
    let (api, _notes) = api().await;
    let url = format!("http://{}/api/v1/tenants/acme/chat", api.listen().await);
    let first = api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    let mut admin = within(&api, "DELETE FROM conversations").await;
    let asked = reqwest::Client::new().post(url).bearer_auth(token("acme", "ann"));
    let asked = asked.json(&json!({"message": "again", "conversationId": first["conversationId"]}));
    let asked = tokio::spawn(asked.send());
    somebody_waits(&api).await;
    sqlx::raw_sql("COMMIT").execute(&mut admin).await.unwrap();
    let answer = asked.await.unwrap().unwrap();
    let status = answer.status();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("conversation_not_found")), "{problem}");
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 0);
}

/// The server's word for "nothing happened, try again": a deadlock that it broke up (40P01) or a failover (40001).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_server_gave_up_is_run_again() {
    let (api, _notes) = api().await;
    // A sequence forgets nothing when a transaction is rolled back.
    let once = "CREATE SEQUENCE tries; GRANT USAGE ON tries TO PUBLIC; \
        CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$ \
        BEGIN IF nextval('tries') <= 1 THEN RAISE 'broken up' USING ERRCODE = 'deadlock_detected'; END IF; \
        RETURN NEW; END $$; \
        CREATE TRIGGER give_up BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION give_up(); COMMIT";
    drop(within(&api, once).await);
    api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    assert_eq!(api.count("acme", "SELECT last_value FROM {schema}.tries").await, 2);
    for (table, rows) in [("conversations", 1), ("messages", 2), ("usage", 1)] {
        let sql = format!("SELECT count(*) FROM {{schema}}.{table}");
        assert_eq!(api.count("acme", &sql).await, rows, "{table}");
    }
}

/// The answer can't be stored any more; the client gets the reason, and the question stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_tenant_was_suspended() {
    let (mut api, notes) = api().await;
    let mut entry = api.tenant("acme");
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    let url = format!("http://{}/api/v1/tenants/acme/chat", api.listen().await);
    let asked = reqwest::Client::new().post(url).bearer_auth(token("acme", "ann"));
    let asked = tokio::spawn(asked.json(&json!({"message": "later"})).send());
    notes.is_asked().await;
    entry["state"] = json!("suspended");
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    let row = api.instance.row(&setup::tenant_id("acme")).await;
    api.instance.database.perform_suspend_access(&row, &api.instance.fence).await.unwrap();
    notes.answer_now();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 403);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "tenant_suspended");
    let now = api.chat("acme", "ann", &json!({"message": "hello"})).await;
    assert_eq!((now.status.as_u16(), now.code()), (403, "tenant_suspended"));

    api.instance.database.perform_resume_access(&row, &api.instance.fence).await.unwrap();
    entry["state"] = json!("active");
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    let questions = "SELECT count(*) FROM {schema}.messages WHERE role = 'user'";
    assert_eq!(api.count("acme", questions).await, 2, "nothing that was asked is lost");
}

/// The schema of a recreated tenant may have the name of the deleted one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_tenant_was_recreated_reaches_nothing_of_the_new_one() {
    let (mut api, notes) = api().await;
    let url = format!("http://{}/api/v1/tenants/acme/chat", api.listen().await);
    let asked = reqwest::Client::new().post(url).bearer_auth(token("acme", "ann"));
    let asked = tokio::spawn(asked.json(&json!({"message": "later"})).send());
    notes.is_asked().await;
    let entry = api.tenant("acme");
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    notes.answer_now();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.usage").await, 0);
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages WHERE role = 'assistant'").await, 0);
    api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_at_a_metadata_address_is_not_called() {
    let mut api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    // One of the spellings of an address that resemble a name.
    let mut agent = agent("a1");
    agent["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": "http://0xa9fea9fe/v1"});
    api.apply("agent-a1", &agent).await;
    api.settled().await;
    let answer = api.chat("acme", "ann", &json!({"message": "hi"})).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "upstream_failed"));
    eventually("it is counted", async || {
        api.count("acme", "SELECT count(*) FROM {schema}.usage WHERE outcome = 'failed'").await == 1
    })
    .await;
}
