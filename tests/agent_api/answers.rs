//! The order of answers: 401, 403, scope, suspended, deleting, not served; and their form.

use super::in_process::{InProcessApi, test_token, token, token_with};
use crate::setup;
use axum::http::Method;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use devkit::SigningKey;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_their_fixed_order() {
    let mut api = InProcessApi::with_tenants(&["acme", "suspended", "deleting", "lost"], |_| {}).await;
    for name in ["suspended", "deleting"] {
        let mut entry = api.tenant(name);
        entry["state"] = json!(name);
        api.apply(&format!("tenant-{name}"), &entry).await;
    }
    let mut lost = api.tenant("lost");
    lost["agents"]["support"]["configUid"] = json!("nowhere");
    api.apply("tenant-lost", &lost).await;
    api.settled().await;
    let read_only = |tenant: &str| token_with(tenant, "ann", |token| token.scope("chat:write settings:read"));
    let rows = [
        ("acme", token("acme", "ann"), 200, ""),
        ("acme", "x".into(), 401, "invalid_token"),
        ("acme", token("nobody", "ann"), 401, "invalid_token"),
        // 403 says the same whether or not the other tenant exists, and comes before scope and state.
        ("beta", token("acme", "ann"), 403, "tenant_mismatch"),
        ("nothing", token("acme", "ann"), 403, "tenant_mismatch"),
        ("beta", read_only("acme"), 403, "tenant_mismatch"),
        ("acme", token("suspended", "ann"), 403, "tenant_mismatch"),
        ("acme", read_only("acme"), 403, "insufficient_scope"),
        ("suspended", read_only("suspended"), 403, "insufficient_scope"),
        ("suspended", token("suspended", "ann"), 403, "tenant_suspended"),
        ("deleting", token("deleting", "ann"), 410, "tenant_deleting"),
        // A new life of the tenant that can't be served: the data of its earlier life must not answer for it.
        ("lost", token("lost", "ann"), 503, "tenant_not_served"),
    ];
    for (path, token, status, code) in rows {
        let answer = api.get(&format!("/api/v1/tenants/{path}/chat"), &token).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}: {}", answer.body);
        assert_eq!(answer.headers.contains_key("retry-after"), status == 503);
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401 || code == "insufficient_scope");
        if status != 200 {
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_bad_tokens_look_the_same() {
    let api = InProcessApi::with_tenants(&["acme", "beta"], |_| {}).await;
    let mut bodies = Vec::new();
    let forged = forge("acme", &super::in_process::key_bytes("beta"));
    let foreign = token_with("beta", "ann", |token| token.claim("tenant_id", "acme"));
    let expired = token_with("acme", "ann", |token| token.claim("iat", 1).claim("exp", 2));
    for token in [forged, foreign, expired, "a.b.c".to_owned()] {
        let mut request = api.request(Method::GET, "/api/v1/tenants/acme/settings", Some(&token), None);
        request.headers_mut().insert("x-request-id", "same".parse().unwrap());
        let answer = api.send(request).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["x-request-id"]), (401, &"same".parse().unwrap()));
        bodies.push(answer.body);
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{bodies:?}");
    assert_eq!(bodies[0]["requestId"], "same");
    let none = api.send(api.request(Method::GET, "/api/v1/tenants/acme/chat", None, None)).await;
    assert_eq!(
        (none.status.as_u16(), none.code(), &none.headers["www-authenticate"]),
        (401, "missing_token", &"Bearer".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_methods_and_ids_are_problems_too() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let token = token("acme", "ann");
    for (method, path, status, code) in [
        (Method::GET, "/", 404, "not_found"),
        (Method::GET, "/api/v1/tenants/acme/usage", 404, "not_found"),
        (Method::DELETE, "/api/v1/tenants/acme/chat", 405, "method_not_allowed"),
    ] {
        let answer = api.send(api.request(method, path, Some(&token), None)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}");
        let made = answer.headers["x-request-id"].to_str().unwrap();
        assert_eq!(answer.body["requestId"], Value::String(made.to_owned()));
    }
    let mut request = api.request(Method::GET, "/api/v1/tenants/acme/settings", Some(&token), None);
    request.headers_mut().insert("x-request-id", "two words".parse().unwrap());
    assert_ne!(api.send(request).await.headers["x-request-id"], "two words");
    let text = axum::body::Body::from("message=hi");
    let mut request = api.request(Method::POST, "/api/v1/tenants/acme/chat", Some(&token), None);
    *request.body_mut() = text;
    assert_eq!(api.send(request).await.code(), "unsupported_media_type");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_a_problem_and_authenticated_first() {
    let api = InProcessApi::with_tenants(&["acme"], |_| {}).await;
    let user = token("acme", "ann");
    let admin = token_with("acme", "admin", |token| token.scope("data:export data:erase"));
    let after = BASE64_URL_SAFE_NO_PAD.encode(
        json!({"incarnation": api.context.registry.snapshot().tenants.get(&setup::tenant_id("acme")).unwrap().incarnation,
               "sub": null, "part": 3, "after": "\u{0}"})
        .to_string(),
    );
    let root = "/api/v1/tenants/acme";
    for (method, path, token, status, code) in [
        (Method::GET, "/api/v1/tenants/%FF/chat".to_owned(), &user, 403, "tenant_mismatch"),
        (Method::GET, "/api/v1/tenants//chat".to_owned(), &user, 403, "tenant_mismatch"),
        (Method::PATCH, format!("{root}/chat"), &user, 405, "method_not_allowed"),
        (Method::GET, format!("{root}/nothing"), &user, 404, "not_found"),
        (Method::DELETE, format!("{root}/users/%FF"), &admin, 422, "invalid_field"),
        (Method::DELETE, format!("{root}/users/%00"), &admin, 422, "invalid_field"),
        (Method::GET, format!("{root}/export?sub=%00"), &admin, 422, "invalid_field"),
        (Method::GET, format!("{root}/export?sub=a%00b"), &admin, 422, "invalid_field"),
        (Method::GET, format!("{root}/export?cursor={after}"), &admin, 422, "invalid_field"),
        (Method::GET, format!("{root}/chat?cursor=%00"), &user, 422, "invalid_field"),
        (Method::GET, format!("{root}/chat?%00=%00"), &user, 422, "invalid_field"),
    ] {
        let answer = api.send(api.request(method.clone(), &path, Some(token), None)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert!(answer.body["requestId"].is_string(), "{path}");
        let nobody = api.send(api.request(method, &path, None, None)).await;
        assert_eq!((nobody.status.as_u16(), nobody.code()), (401, "missing_token"), "{path}: {}", nobody.body);
        assert_eq!(nobody.headers["content-type"], "application/problem+json", "{path}");
    }
    for body in ["[\"hi\"]", " [\"hi\", null, null]", "[]"] {
        let mut request = api.request(Method::POST, &format!("{root}/chat"), Some(&user), Some(&json!({})));
        *request.body_mut() = axum::body::Body::from(body);
        let answer = api.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_field"), "{body}: {}", answer.body);
    }
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages").await, 0);
}

/// A token for a tenant, signed with other bytes than its key's.
fn forge(tenant: &str, bytes: &[u8]) -> String {
    test_token(tenant, "ann").sign(&SigningKey::hs256(format!("kid-{tenant}"), bytes.to_vec())).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_silent_for_too_long_is_reported_until_it_answers() {
    let api = InProcessApi::with_tenants(&["acme"], |s| s.registry.max_staleness_seconds = 1).await;
    let ask = async || api.get("/api/v1/tenants/acme/chat", &token("acme", "ann")).await;
    api.context.registry.note_contact();
    assert_eq!(ask().await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let stale = ask().await;
    assert_eq!((stale.status.as_u16(), stale.code()), (503, "registry_stale"));
    let bad = api.get("/api/v1/tenants/acme/settings", "x").await;
    assert_eq!(bad.status, 401, "a bad token stays a bad token");
    api.context.registry.note_contact();
    assert_eq!(ask().await.status, 200);
}
