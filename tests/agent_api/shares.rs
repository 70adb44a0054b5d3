//! One process serves all tenants: none of them can use it up.

use super::{
    in_process::{InProcessApi, agent, token},
    process::{Process, eventually},
};
use crate::setup;
use agent_tenancy::agent_api::metrics::ShareUse;
use axum::{Json, Router, http::Method, routing::post};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// A provider that answers when the test lets it.
async fn gated(api: &mut InProcessApi) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let complete = post(async move |Json(_): Json<Value>| {
        waiting.acquire().await.unwrap().forget();
        Json(json!({"choices": [{"message": {"content": "at last"}}]}))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/chat/completions", complete);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut slow = agent("a2");
    slow["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
    api.apply("agent-a2", &slow).await;
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_slow_calls_leaves_slots_for_others() {
    let mut api = InProcessApi::with_tenants(&["acme", "beta"], |s| {
        s.limits.concurrent_chats = 16;
        s.limits.tenant_share_percent = 25;
    })
    .await;
    let gate = gated(&mut api).await;
    let mut entry = api.tenant("acme");
    entry["agents"]["support"]["configUid"] = json!("a2");
    api.apply("tenant-acme", &entry).await;
    api.settled().await;
    let path = "/api/v1/tenants/acme/chat";
    let call = || {
        let request = api.request(Method::POST, path, Some(&token("acme", "ann")), Some(&json!({"message": "hi"})));
        tokio::spawn(api.pending_answer(request))
    };
    let calls: Vec<_> = (0..4).map(|_| call()).collect();
    let pending = "SELECT count(*) FROM {schema}.messages WHERE status = 'pending'";
    eventually("all calls wait for the provider", async || api.count("acme", pending).await == 4).await;
    let fifth = call().await.unwrap();
    assert_eq!((fifth.status.as_u16(), fifth.code()), (429, "tenant_busy"), "its own cap is no fault of the server");
    assert!(fifth.headers.contains_key("retry-after"));
    api.chat("beta", "bob", &json!({"message": "free?"})).await.ok();
    gate.add_permits(4);
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    gate.add_permits(1);
    assert_eq!(call().await.unwrap().status, 200, "returned slots are free again");
    assert_eq!(api.context.chats.usage(), ShareUse { taken: 0, total: 16 });
    assert_eq!(api.context.bytes.usage().taken, 0);
}

/// A database that accepts connections and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_says_nothing_delays_its_own_tenants_only() {
    let mut api = InProcessApi::with_tenants(&["acme", "beta"], |s| {
        s.database.connection_budget = 4;
        s.database.login_timeout_seconds = 2;
        s.database.acquire_timeout_millis = 500;
        s.limits.tenant_share_percent = 100;
    })
    .await;
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hole.local_addr().unwrap().port();
    let gate = super::gate::Gate::new();
    let database = format!("{}:{}", api.instance.test.host, api.instance.test.port).parse().unwrap();
    // The instance `dark` works until its tenant is loaded, and then falls silent.
    let open = gate.before(database, super::gate::Pieces::OfPostgres).await;
    assert_ne!(open, port);
    let mut cell = api.cell();
    (cell["instance"], cell["port"]) = (json!("dark"), json!(open));
    api.apply("cell-dark-1", &cell).await;
    let mut entry = api.tenant("beta");
    entry["database"]["instance"] = json!("dark");
    api.apply("tenant-beta", &entry).await;
    api.settled().await;
    gate.close_after(0);

    let path = "/api/v1/tenants/beta/chat";
    let dark: Vec<_> = (0..12)
        .map(|_| {
            let request = api.request(Method::GET, path, Some(&token("beta", "bob")), None);
            tokio::spawn(api.pending_answer(request))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for call in dark {
        let answer = call.await.unwrap();
        // Its own cap, or the database.
        assert!([429, 503].contains(&answer.status.as_u16()), "{}", answer.body);
    }
    // Once it is known to give no answer, the client learns that at once.
    for _ in 0..2 {
        api.get(path, &token("beta", "bob")).await;
    }
    let began = std::time::Instant::now();
    let answer = api.get(path, &token("beta", "bob")).await;
    assert_eq!(answer.code(), "database_unavailable");
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
}

/// Fills the history of a user with messages of this size.
async fn fill(api: &InProcessApi, tenant: &str, sub: &str, messages: usize, bytes: usize) {
    let schema = setup::tenant_id(tenant).database_name(&api.instance.prefix);
    let fill = format!(
        "SET search_path = \"{schema}\"; \
         WITH c AS (INSERT INTO conversations (id, sub) VALUES (gen_random_uuid(), '{sub}') RETURNING id) \
         INSERT INTO messages (id, conversation_id, sub, role, status, content, agent, revision, request_id) \
         SELECT gen_random_uuid(), c.id, '{sub}', 'user', 'answered', repeat('m', {bytes}), 'support', 1, \
                gen_random_uuid() FROM c, generate_series(1, {messages})"
    );
    api.instance.as_admin(&fill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_bounded_by_bytes_and_lose_nothing() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    fill(&api, "acme", "ann", 30, 250_000).await;
    let (user, mut seen, mut pages, mut cursor) = (token("acme", "ann"), 0, 0, String::new());
    loop {
        let page = api.get(&format!("/api/v1/tenants/acme/chat?limit=200{cursor}"), &user).await.ok();
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() <= 5, "{} messages of 250 kB", messages.len());
        (seen, pages) = (seen + messages.len(), pages + 1);
        assert_eq!(page["hasMore"], !page["next"].is_null());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen, pages), (30, 6));
    let admin = super::in_process::token_with("acme", "admin", |token| token.scope("data:export"));
    let (mut lines, mut cursor) = (0, String::new());
    loop {
        let request =
            api.request(Method::GET, &format!("/api/v1/tenants/acme/export?limit=1000{cursor}"), Some(&admin), None);
        let text = api.text(request).await;
        assert!(text.len() < 5 << 20, "{}", text.len());
        let (rows, end) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        lines += rows.lines().filter(|line| line.contains("\"type\" : \"message\"")).count();
        let Some(next) = serde_json::from_str::<Value>(end).unwrap()["next"].as_str().map(str::to_owned) else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(lines, 30);
    assert_eq!(api.context.bytes.usage().taken, 0, "what was read is returned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_at_its_share_of_memory_gets_429_and_others_are_served() {
    // 80 MiB leave about 27 for requests, and 2 of it for each tenant.
    let api = InProcessApi::with_tenants(&["acme", "beta"], |s| {
        s.http.max_connections = 64;
        s.limits.memory_mebibytes = 80;
        s.limits.tenant_share_percent = 8;
    })
    .await;
    fill(&api, "acme", "ann", 20, 100_000).await;
    // A page becomes smaller rather than refused.
    let page = api.get("/api/v1/tenants/acme/chat", &token("acme", "ann")).await.ok();
    assert!(
        (4..10).contains(&page["messages"].as_array().unwrap().len()),
        "{}",
        page["messages"].as_array().unwrap().len()
    );
    let all = api.context.bytes.usage().total;
    let tenants = api.context.registry.snapshot();
    let incarnation = tenants.tenants.get(&setup::tenant_id("acme")).unwrap().incarnation;
    let part = agent_tenancy::agent_api::shares::part_of(all, 8);
    let held = api.context.bytes.take(incarnation, part - 1000).ok().unwrap();
    for method in [Method::GET, Method::POST] {
        let body = (method == Method::POST).then(|| json!({"message": "hi"}));
        let request = api.request(method, "/api/v1/tenants/acme/chat", Some(&token("acme", "ann")), body.as_ref());
        let answer = api.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "tenant_busy"), "{}", answer.body);
    }
    api.chat("beta", "bob", &json!({"message": "hi"})).await.ok();
    drop(held);
    api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
}

/// A process with these variables that serves `acme` from a registry in a directory.
async fn start_process(api: &InProcessApi, settings: &[(&str, &str)]) -> (Process, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &Value| {
        std::fs::write(directory.path().join(format!("{name}.json")), value.to_string()).unwrap();
    };
    put("agent-a1", &agent("a1"));
    put("cell-main-1", &api.cell());
    put("tenant-acme", &api.tenant("acme"));
    let registry = [("AGENT_TENANCY__REGISTRY__DIRECTORY", directory.path().to_str().unwrap())];
    let process = Process::start(&[&registry, settings].concat(), &directory.path().join("log"));
    process.wait_until_ready().await;
    (process, directory)
}

/// 100 messages of 250 kB, and many pages of them at once: the attack that once took a replica from 28 to 467 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_pages_at_once_stay_within_the_memory_limit() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    fill(&api, "acme", "ann", 100, 250_000).await;
    let settings =
        [("AGENT_TENANCY__LIMITS__MEMORY_MEBIBYTES", "160"), ("AGENT_TENANCY__HTTP__MAX_CONNECTIONS", "256")];
    let (process, _directory) = start_process(&api, &settings).await;
    let before = process.peak_memory();
    let calls = (0..64).map(|_| process.history("acme", "?limit=200"));
    let answers = futures::future::join_all(calls).await;
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!(served > 0 && answers.iter().all(|status| [200, 429, 503].contains(status)), "{answers:?}");
    let peak = process.peak_memory();
    println!("64 large pages at once: {served} served; peak memory {} MiB, {} MiB before", peak >> 20, before >> 20);
    assert!(peak < 160 << 20, "{peak} bytes");
    assert_eq!(process.chat("acme", "hi").await.0, 200);
}

/// Sockets that send half a head, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_head_holds_neither_the_api_nor_the_health_port() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let settings = [("AGENT_TENANCY__HTTP__MAX_CONNECTIONS", "32"), ("AGENT_TENANCY__HTTP__HEAD_SECONDS", "2")];
    let (process, _directory) = start_process(&api, &settings).await;
    let mut sockets = Vec::new();
    for address in [process.api_address(), process.health_address()] {
        for n in 0..100 {
            let Ok(mut socket) = tokio::net::TcpStream::connect(address).await else { continue };
            if n % 2 == 0 {
                drop(socket.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await);
            }
            sockets.push(socket);
        }
    }
    // As soon as the sockets that came first have had their time.
    devkit::eventually(Duration::from_secs(20), "both ports answer", || async {
        let (health, chat) = (process.health("/livez").await.0, process.chat("acme", "hi").await.0);
        anyhow::ensure!((health, chat) == (200, 200), "{health} {chat}");
        Ok(())
    })
    .await
    .unwrap();
    for mut socket in sockets {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a socket with half a head is still open");
    }
}
