//! The storage limit: warned of, then refused with 507, while reading and deleting go on.

use super::in_process::{Answer, InProcessApi, agent, settings_token, token, token_with};
use crate::setup::on_both;
use axum::{Json, Router, http::Method, routing::post};
use devkit::PgVersion;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

on_both!(
    warned_then_refused_until_something_is_deleted,
    writers_at_once_pass_the_limit_by_no_more_than_is_under_way,
    a_schema_that_does_not_count_refuses_nothing,
);

/// What a provider answers, and how often it was asked.
const ANSWER_BYTES: usize = 400;

struct Scene {
    api: InProcessApi,
    asked: Arc<AtomicUsize>,
}

impl Scene {
    /// `acme` with a limit, and with a provider that answers always with the same length.
    async fn new(version: PgVersion, change: impl FnOnce(&mut Value)) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let complete = post(async move |Json(_): Json<Value>| {
            counted.fetch_add(1, Ordering::SeqCst);
            Json(json!({"choices": [{"message": {"content": "a".repeat(ANSWER_BYTES)}}]}))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/chat/completions", complete);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
        let mut agent = agent("a1");
        agent["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
        api.apply("agent-a1", &agent).await;
        let mut scene = Self { api, asked };
        scene.set(change).await;
        scene
    }

    /// Changes the entry.
    async fn set(&mut self, change: impl FnOnce(&mut Value)) {
        let mut entry = self.api.tenant("acme");
        entry["mutable"] = json!(["Instructions", "Temperature"]);
        change(&mut entry);
        self.api.apply("tenant-acme", &entry).await;
        self.api.settled().await;
    }

    async fn limit(&mut self, bytes: i64) {
        self.set(|entry| entry["database"]["storageLimitBytes"] = json!(bytes)).await;
    }

    async fn chat(&self, sub: &str, bytes: usize) -> Answer {
        self.api.chat("acme", sub, &json!({"message": "q".repeat(bytes)})).await
    }

    async fn put(&self, body: Value) -> Answer {
        let path = "/api/v1/tenants/acme/settings";
        self.api.send(self.api.request(Method::PUT, path, Some(&settings_token("acme", "ann")), Some(&body))).await
    }

    async fn settings(&self) -> Answer {
        self.api.get("/api/v1/tenants/acme/settings", &settings_token("acme", "ann")).await
    }

    async fn erase(&self, sub: &str) -> Answer {
        let token = token_with("acme", "admin", |token| token.scope("data:erase"));
        let path = format!("/api/v1/tenants/acme/users/{sub}");
        self.api.send(self.api.request(Method::DELETE, &path, Some(&token), None)).await
    }

    /// What is stored, counted again.
    async fn recount(&self) -> i64 {
        let recount = "SELECT ((SELECT coalesce(sum(octet_length(content)), 0) FROM {schema}.messages) \
                       + (SELECT coalesce(sum(octet_length(value::text)), 0) FROM {schema}.settings))::int8";
        self.api.count("acme", recount).await
    }

    fn metric(&self, level: &str) -> u64 {
        let text = self.api.context.metrics.metrics().render();
        let name = format!("agent_api_storage_checks_total{{level=\"{level}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |n| n.parse().unwrap())
    }
}

fn warning(answer: &Answer) -> Option<&str> {
    answer.headers.get("storage-warning").map(|v| v.to_str().unwrap())
}

#[track_caller]
fn refused(answer: &Answer, used: i64, limit: i64) {
    assert_eq!((answer.status.as_u16(), answer.code()), (507, "storage_limit_reached"), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("the tenant keeps {used} bytes and may keep {limit}: ")), "{detail}");
    assert!(detail.contains("DELETE users/{sub}") && detail.contains("spec.database.storageLimit"), "{detail}");
}

async fn warned_then_refused_until_something_is_deleted(version: PgVersion) {
    let mut scene = Scene::new(version, |_| {}).await;
    // Without a limit: shown, and nothing else.
    assert_eq!(scene.chat("ann", 500).await.status, 200);
    let shown = scene.settings().await;
    assert_eq!((warning(&shown), &shown.body["storage"]), (None, &json!({"usedBytes": 900})));

    scene.limit(2000).await;
    assert_eq!(scene.settings().await.body["storage"], json!({"limitBytes": 2000, "usedBytes": 900}));
    let answer = scene.chat("bob", 500).await;
    assert_eq!((answer.status.as_u16(), warning(&answer)), (200, None));
    // 1800 of 2000: warned, everywhere.
    for answer in [scene.settings().await, scene.put(json!({"temperature": "0.5"})).await] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let used = &answer.body["storage"]["usedBytes"];
        assert_eq!(warning(&answer).unwrap(), format!("used={used}, limit=2000"));
    }
    // "0.5" as JSON has five bytes. The answer is stored although it exceeds the limit.
    let answer = scene.chat("ann", 100).await;
    assert_eq!((answer.status.as_u16(), warning(&answer)), (200, Some("used=1805, limit=2000")));
    let asked = scene.asked.load(Ordering::SeqCst);
    assert_eq!((asked, scene.recount().await), (3, 2305));

    let conversation = answer.body["conversationId"].clone();
    refused(&scene.chat("ann", 1).await, 2305, 2000);
    let more = json!({"message": "more", "conversationId": conversation});
    refused(&scene.api.chat("acme", "ann", &more).await, 2305, 2000);
    refused(&scene.put(json!({"instructions": "x"})).await, 2305, 2000);
    refused(&scene.put(json!({"instructions": "x", "temperature": null})).await, 2305, 2000);
    assert_eq!(scene.asked.load(Ordering::SeqCst), asked, "the provider isn't asked");
    assert_eq!(scene.recount().await, 2305);
    let tables = "SELECT (SELECT count(*) FROM {schema}.messages) + (SELECT count(*) FROM {schema}.conversations) \
                  + (SELECT count(*) FROM {schema}.usage) + (SELECT count(*) FROM {schema}.settings)";
    assert_eq!(scene.api.count("acme", tables).await, 6 + 3 + 3 + 1);
    // Reading goes on, and so does removing.
    let (ann, path) = (token("acme", "ann"), "/api/v1/tenants/acme");
    assert_eq!(scene.api.get(&format!("{path}/chat"), &ann).await.ok()["messages"].as_array().unwrap().len(), 4);
    let export = token_with("acme", "admin", |token| token.scope("data:export"));
    assert_eq!(scene.api.get(&format!("{path}/export"), &export).await.status, 200);
    let shown = scene.settings().await;
    assert_eq!(warning(&shown), Some("used=2305, limit=2000"));
    assert_eq!(shown.body["storage"], json!({"limitBytes": 2000, "usedBytes": 2305}));
    let removed = scene.put(json!({"temperature": null})).await;
    assert_eq!(removed.body["storage"]["usedBytes"], 2300, "{}", removed.body);
    refused(&scene.chat("bob", 1).await, 2300, 2000);
    assert_eq!(scene.erase("bob").await.ok()["messages"], 2);
    let answer = scene.chat("ann", 1).await;
    assert_eq!((answer.status.as_u16(), warning(&answer)), (200, None));
    assert_eq!(scene.settings().await.body["storage"]["usedBytes"], 1801);
    assert_eq!(scene.recount().await, 1801);
    // Somebody else's conversation is still none, whether or not there is room.
    let theirs = json!({"message": "mine?", "conversationId": conversation});
    assert_eq!(scene.api.chat("acme", "carl", &theirs).await.code(), "conversation_not_found");
    // A higher limit helps at once, a lower one holds at once.
    scene.limit(1801).await;
    refused(&scene.chat("ann", 1).await, 1801, 1801);
    scene.limit(i64::MAX).await;
    assert_eq!(scene.chat("ann", 1).await.status, 200);
    assert_eq!((scene.metric("free"), scene.metric("nearly_full"), scene.metric("full")), (3, 2, 6));
}

async fn writers_at_once_pass_the_limit_by_no_more_than_is_under_way(version: PgVersion) {
    const WRITERS: usize = 12;
    const QUESTION_BYTES: usize = 300;
    let mut scene = Scene::new(version, |_| {}).await;
    scene.limit(40_000).await;
    let write = async |n: usize| {
        for _ in 0..1000 {
            let answer = scene.chat(&format!("user-{n}"), QUESTION_BYTES).await;
            match answer.status.as_u16() {
                200 => {}
                503 => assert_eq!(answer.code(), "busy"),
                _ => {
                    assert_eq!(answer.code(), "storage_limit_reached", "{}", answer.body);
                    return;
                }
            }
        }
        panic!("never refused");
    };
    stream::iter(0..WRITERS).map(write).buffer_unordered(WRITERS).collect::<Vec<()>>().await;
    let used = scene.settings().await.body["storage"]["usedBytes"].as_i64().unwrap();
    assert_eq!(used, scene.recount().await);
    let under_way = i64::try_from(WRITERS * (QUESTION_BYTES + ANSWER_BYTES)).unwrap();
    assert!((40_000..40_000 + under_way).contains(&used), "{used}");
    let pending = "SELECT count(*) FROM {schema}.messages WHERE status = 'pending'";
    assert_eq!(scene.api.count("acme", pending).await, 0, "every question that was taken was answered");
    // All of them at once leave, while others write.
    let busy = async |n: usize| match n % 2 {
        0 => assert_eq!(scene.erase(&format!("user-{n}")).await.status, 200),
        _ => assert!([200, 507, 503].contains(&scene.chat(&format!("user-{n}"), 10).await.status.as_u16())),
    };
    stream::iter(0..WRITERS).map(busy).buffer_unordered(WRITERS).collect::<Vec<()>>().await;
    let used = scene.settings().await.body["storage"]["usedBytes"].as_i64().unwrap();
    assert_eq!(used, scene.recount().await);
    assert_eq!(scene.chat("user-1", 10).await.status, 200);
}

/// The entry of a tenant with a schema that is still at version 1.
async fn a_schema_that_does_not_count_refuses_nothing(version: PgVersion) {
    let scene = Scene::new(version, |entry| {
        entry["database"]["schemaVersion"] = json!(1);
        entry["database"]["storageLimitBytes"] = json!(1);
    })
    .await;
    let table = format!(
        "DROP TABLE \"{}\".storage CASCADE",
        crate::setup::tenant_id("acme").database_name(&scene.api.instance.prefix)
    );
    scene.api.instance.as_admin(&table).await;
    // The triggers are still there and miss their table; a schema at version 1 has none.
    scene.api.instance.as_admin(&without_triggers(&scene)).await;
    for _ in 0..2 {
        let answer = scene.chat("ann", 100).await;
        assert_eq!((answer.status.as_u16(), warning(&answer)), (200, None), "{}", answer.body);
    }
    let changed = scene.put(json!({"instructions": "x"})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["storage"]), (200, &json!({"limitBytes": 1})));
    assert_eq!(scene.settings().await.ok()["storage"], json!({"limitBytes": 1}));
}

fn without_triggers(scene: &Scene) -> String {
    let schema = crate::setup::tenant_id("acme").database_name(&scene.api.instance.prefix);
    ["messages count_added", "messages count_removed", "messages count_changed", "settings count_changed"]
        .map(|pair| pair.split_once(' ').unwrap())
        .map(|(table, trigger)| format!("DROP TRIGGER {trigger} ON \"{schema}\".{table};"))
        .concat()
}
