//! Providers as they are: parameters that a model refuses, forms of an answer, kinds of errors; and conversations that stay
//! acceptable to them.

use super::in_process::{Answer, InProcessApi, agent};
use crate::setup;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

type Requests = Arc<Mutex<Vec<Value>>>;

fn refuse(code: &str, parameter: &str, message: &str) -> Response {
    let error =
        json!({"error": {"message": message, "type": "invalid_request_error", "param": parameter, "code": code}});
    (StatusCode::BAD_REQUEST, Json(error)).into_response()
}

/// A model that is named by what it does.
async fn complete(State(requests): State<Requests>, Json(body): Json<Value>) -> Response {
    requests.lock().unwrap().push(body.clone());
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
    let turns = roles.strip_prefix(&["system"]).unwrap_or(&roles);
    let alternates = turns.iter().enumerate().all(|(n, role)| *role == ["user", "assistant"][n % 2]);
    if !alternates || messages.iter().any(|m| m["content"] == "") {
        return refuse("", "messages", "roles must alternate user/assistant, and content must not be empty");
    }
    let choice = |message: Value| {
        Json(json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": null})).into_response()
    };
    match body["model"].as_str().unwrap() {
        "completion-tokens" if !body["max_tokens"].is_null() => refuse(
            "unsupported_parameter",
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ),
        "no-system" if roles[0] == "system" => refuse("", "", "System role not supported"),
        "one-of-two" if !body["temperature"].is_null() && !body["top_p"].is_null() => {
            refuse("", "", "`temperature` and `top_p` cannot both be specified for this model.")
        }
        "fixed" if !body["temperature"].is_null() => {
            refuse("unsupported_value", "temperature", "Only the default (1) value is supported.")
        }
        "small" if messages.len() > 6 => refuse("context_length_exceeded", "messages", "too long"),
        "tiny" => refuse("context_length_exceeded", "messages", "This model's maximum context length is 8 tokens."),
        "parts" => choice(json!({"content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]})),
        "declines" => choice(json!({"content": null, "refusal": "I can't help with that."})),
        "empty" => choice(json!({"content": ""})),
        "filtered" => Json(json!({
            "choices": [{"message": {"content": null}, "finish_reason": "content_filter"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        }))
        .into_response(),
        "error-200" => Json(json!({"error": {"message": "no", "code": "content_filter"}})).into_response(),
        "missing" => (StatusCode::NOT_FOUND, Json(json!({"error": {"code": "model_not_found"}}))).into_response(),
        _ => choice(json!({"content": "an answer"})),
    }
}

struct Scene {
    api: InProcessApi,
    requests: Requests,
    base_url: String,
}

impl Scene {
    async fn new() -> Self {
        let requests = Requests::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&requests));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { api: InProcessApi::with_tenants(&["acme"], |_| {}).await, requests, base_url }
    }

    async fn model(&mut self, model: &str) {
        let mut agent = agent("a1");
        let behaviour = &mut agent["current"]["behaviour"];
        behaviour["provider"] = json!({"type": "OpenAICompatible", "baseUrl": self.base_url});
        behaviour["model"] = json!(model);
        (behaviour["temperature"], behaviour["topP"]) = (json!("0.3"), json!("0.9"));
        self.api.apply("agent-a1", &agent).await;
        self.api.settled().await;
        self.requests.lock().unwrap().clear();
    }

    async fn ask(&self, conversation: &Value) -> Answer {
        let mut body = json!({"message": "hello"});
        if !conversation.is_null() {
            body["conversationId"] = conversation.clone();
        }
        self.api.chat("acme", "ann", &body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_refuses_is_asked_otherwise_and_remembered() {
    let mut scene = Scene::new().await;
    for (model, has, lacks) in [
        ("completion-tokens", "max_completion_tokens", "max_tokens"),
        ("one-of-two", "temperature", "top_p"),
        ("fixed", "top_p", "temperature"),
    ] {
        scene.model(model).await;
        scene.ask(&Value::Null).await.ok();
        assert_eq!(scene.requests.lock().unwrap().len(), 2, "{model}: refused, then asked otherwise");
        scene.ask(&Value::Null).await.ok();
        let requests = scene.requests.lock().unwrap().clone();
        assert_eq!(requests.len(), 3, "{model}: remembered");
        assert!(!requests[2][has].is_null() && requests[2][lacks].is_null(), "{}", requests[2]);
    }
    scene.model("no-system").await;
    scene.ask(&Value::Null).await.ok();
    let last = scene.requests.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last["messages"], json!([{"role": "user", "content": "Be kind.\n\nhello"}]));
    // One request, one row of usage, however often the model was asked.
    assert_eq!(scene.api.count("acme", "SELECT count(*) FROM {schema}.usage").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_an_answer_is_read_and_every_error_keeps_its_kind() {
    let mut scene = Scene::new().await;
    for (model, status, wanted) in [
        ("parts", 200, "in parts"),
        ("declines", 200, "I can't help with that."),
        ("empty", 502, "upstream_failed"),
        ("filtered", 422, "content_filtered"),
        ("error-200", 422, "content_filtered"),
        ("missing", 502, "upstream_model_not_found"),
        ("tiny", 422, "context_length_exceeded"),
    ] {
        scene.model(model).await;
        let answer = scene.ask(&Value::Null).await;
        let got = if status == 200 { answer.body["message"].as_str().unwrap() } else { answer.code() };
        assert_eq!((answer.status.as_u16(), got), (status, wanted), "{model}: {}", answer.body);
    }
    super::process::eventually("what a filtered answer cost is counted", async || {
        let counted = "SELECT coalesce(sum(output_tokens), 0)::int8 FROM {schema}.usage WHERE outcome = 'failed'";
        scene.api.count("acme", counted).await >= 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_outgrows_the_model_goes_on_with_its_newest_turns() {
    let mut scene = Scene::new().await;
    scene.model("small").await;
    let mut conversation = Value::Null;
    for _ in 0..6 {
        conversation = scene.ask(&conversation).await.ok()["conversationId"].clone();
    }
    let last = scene.requests.lock().unwrap().last().cloned().unwrap();
    assert!((3..=6).contains(&last["messages"].as_array().unwrap().len()), "{last}");
}

/// What older versions and two questions at once have stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_reaches_the_provider_in_whole_alternating_turns() {
    let mut scene = Scene::new().await;
    scene.model("strict").await;
    let conversation = scene.ask(&Value::Null).await.ok()["conversationId"].clone();
    let schema = setup::tenant_id("acme").database_name(&scene.api.instance.prefix);
    // Question, question, answer, answer; an empty answer; and one of an older agent without its question.
    let rows = [
        ("user", "answered", "first", 1),
        ("user", "answered", "second", 2),
        ("assistant", "complete", "to the second", 2),
        ("assistant", "complete", "to the first", 1),
        ("user", "answered", "third", 3),
        ("assistant", "complete", "", 3),
        ("user", "failed", "fourth", 4),
    ];
    for (n, (role, status, content, request)) in rows.iter().enumerate() {
        // Later than what T1 has stored: the time in an id is the database's.
        let insert = format!(
            "INSERT INTO \"{schema}\".messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
             VALUES ('7fffffff-ffff-7000-8000-00000000000{n}', {conversation}, 'ann', '{role}', '{status}', '{content}', \
                     'support', 1, '00000000-0000-7000-8000-00000000000{request}')",
            conversation = conversation.to_string().replace('"', "'"),
        );
        scene.api.instance.as_admin(&insert).await;
    }
    scene.ask(&conversation).await.ok();
    let last = scene.requests.lock().unwrap().last().cloned().unwrap();
    let sent: Vec<_> = last["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(sent, ["Be kind.", "hello", "an answer", "first", "to the first", "second", "to the second", "hello"]);
}
