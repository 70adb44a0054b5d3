//! What a provider was paid for is stored and counted, whatever happens meanwhile.

use super::{
    gate::{Gate, Pieces},
    in_process::{InProcessApi, agent, token, token_with},
    process::eventually,
};
use crate::setup;
use agent_tenancy::settings::agent_api::AgentApiSettings;
use axum::{Json, Router, http::Method, routing::post};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A provider that answers when the test lets it; returns its base URL.
async fn gated_provider() -> (Arc<Semaphore>, String) {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let complete = post(async move |Json(_): Json<Value>| {
        waiting.acquire().await.unwrap().forget();
        Json(json!({"choices": [{"message": {"content": "worth its price"}}]}))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/chat/completions", complete);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (gate, base_url)
}

/// A call that waits for its provider, behind a gate before the database.
struct Scene {
    api: InProcessApi,
    gate: Arc<Gate>,
    provider: Arc<Semaphore>,
    call: tokio::task::JoinHandle<super::in_process::Answer>,
}

impl Scene {
    async fn new(configure: impl FnOnce(&mut AgentApiSettings)) -> Self {
        let mut api = InProcessApi::with_tenants(&["acme"], |settings| {
            settings.database.login_timeout_seconds = 1;
            configure(settings);
        })
        .await;
        let gate = Gate::new();
        let database = format!("{}:{}", api.instance.test.host, api.instance.test.port).parse().unwrap();
        let mut cell = api.cell();
        cell["port"] = json!(gate.before(database, Pieces::OfPostgres).await);
        api.apply("cell-main-1", &cell).await;
        let (provider, base_url) = gated_provider().await;
        let mut slow = agent("a1");
        slow["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
        api.apply("agent-a1", &slow).await;
        api.settled().await;
        let (path, body) = ("/api/v1/tenants/acme/chat", json!({"message": "hello"}));
        let request = api.request(Method::POST, path, Some(&token("acme", "ann")), Some(&body));
        let call = tokio::spawn(api.pending_answer(request));
        let pending = "SELECT count(*) FROM {schema}.messages WHERE status = 'pending'";
        eventually("the question is stored", async || api.count("acme", pending).await == 1).await;
        Self { api, gate, provider, call }
    }

    /// Every connection breaks, and no login succeeds; then the provider answers.
    fn lose_the_database(&self) {
        self.gate.cut();
        self.gate.close_after(0);
        self.provider.add_permits(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_outlives_an_outage_of_the_database() {
    let scene = Scene::new(|_| {}).await;
    scene.lose_the_database();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!scene.call.is_finished());
    scene.gate.open();
    let answer = tokio::time::timeout(Duration::from_secs(30), scene.call).await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body["message"]), (200, &json!("worth its price")));
    for (rows, wanted) in
        [("messages", 2), ("messages WHERE status = 'answered'", 1), ("usage WHERE outcome = 'ok'", 1)]
    {
        assert_eq!(scene.api.count("acme", &format!("SELECT count(*) FROM {{schema}}.{rows}")).await, wanted, "{rows}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_given_up_names_its_question() {
    let scene = Scene::new(|settings| settings.http.drain_seconds = 1).await;
    scene.lose_the_database();
    let answer = tokio::time::timeout(Duration::from_secs(30), scene.call).await.unwrap().unwrap();
    scene.gate.open();
    assert_eq!(answer.status, 503, "{}", answer.body);
    let question =
        format!("SELECT count(*) FROM {{schema}}.messages WHERE id = '{}'", answer.body["messageId"].as_str().unwrap());
    assert_eq!(scene.api.count("acme", &question).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_nobody_answers_any_more_is_read_as_failed() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let schema = setup::tenant_id("acme").database_name(&api.instance.prefix);
    let fill = format!(
        "SET search_path = \"{schema}\"; \
         WITH c AS (INSERT INTO conversations (id, sub) VALUES (gen_random_uuid(), 'ann') RETURNING id) \
         INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id, created_at) \
         SELECT gen_random_uuid(), c.id, 'ann', 'user', 'pending', w.t, 'support', 1, gen_random_uuid(), now() - w.age \
           FROM c, (VALUES ('old', interval '2 hours'), ('new', interval '10 minutes')) w (t, age)"
    );
    api.instance.as_admin(&fill).await;
    let page = api.get("/api/v1/tenants/acme/chat", &token("acme", "ann")).await.ok();
    let status = |content: &str| {
        let messages = page["messages"].as_array().unwrap();
        messages.iter().find(|m| m["content"] == content).unwrap()["status"].clone()
    };
    assert_eq!((status("old"), status("new")), (json!("failed"), json!("pending")));
    let admin = token_with("acme", "admin", |token| token.scope("data:export"));
    let (mut text, mut cursor) = (String::new(), String::new());
    loop {
        let path = format!("/api/v1/tenants/acme/export{cursor}");
        let page = api.text(api.request(Method::GET, &path, Some(&admin), None)).await;
        let next = serde_json::from_str::<Value>(page.trim_end().lines().last().unwrap()).unwrap()["next"].clone();
        text.push_str(&page);
        let Some(next) = next.as_str() else { break };
        cursor = format!("?cursor={next}");
    }
    let exported = |content: &str| {
        let row = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        row.into_iter().find(|row| row["content"] == content).unwrap()["status"].clone()
    };
    assert_eq!((exported("old"), exported("new")), (json!("failed"), json!("pending")));
}
