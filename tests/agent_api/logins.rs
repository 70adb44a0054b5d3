//! A cell's login is changed under calls: what is under way ends well, what comes next uses the new one, and the old one is
//! free soon.

use super::{
    in_process::{InProcessApi, agent},
    process::eventually,
};
use crate::setup::{cell_login, on_both};
use agent_tenancy::{
    domain::{
        cells::CellRoles,
        ident::{CellNumber, LoginId},
        keys::KeyBytes,
        logins::{LoginRequests, LoginSlot, NextLogin},
    },
    plan::instance::logins::LoginFacts,
};
use axum::{Json, Router, extract::State, routing::post};
use base64::{Engine, prelude::BASE64_STANDARD};
use devkit::PgVersion;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

on_both!(
    an_open_transaction_of_the_old_login_is_not_cut,
    a_chat_that_began_with_the_old_login_ends_with_the_new_one,
    idle_connections_of_the_old_login_are_closed,
    a_login_that_is_refused_changes_nothing,
);

const CELL: CellNumber = CellNumber(1);
const NEW: LoginId = LoginId(Uuid::from_u128(2));

async fn facts(api: &InProcessApi) -> LoginFacts {
    api.instance.database.observe_logins().await.unwrap().remove(0)
}

async fn sessions(api: &InProcessApi) -> (u64, u64) {
    let now = facts(api).await;
    (now.a.unwrap().sessions, now.b.unwrap().sessions)
}

/// The database lets the other login in.
async fn set(api: &InProcessApi) {
    let password = KeyBytes::new(b"new-password".to_vec());
    let next = NextLogin { id: NEW, slot: LoginSlot::B, password, requests: LoginRequests::default() };
    let instance = &api.instance;
    instance.database.perform_set_login(CELL, &next, cell_login().id, &instance.fence).await.unwrap();
}

/// The entry says so.
async fn switch(api: &mut InProcessApi, password: &str) {
    let mut entry = api.cell();
    entry["user"] = json!(CellRoles::of(&api.instance.prefix, CELL).login(LoginSlot::B));
    entry["password"] = json!(BASE64_STANDARD.encode(password));
    entry["login"] = json!({ "id": NEW, "since": "2026-01-01T00:00:00Z" });
    api.apply("cell-main-1", &entry).await;
    api.settled().await;
}

async fn lock(api: &InProcessApi, force: bool) -> Result<(), String> {
    let instance = &api.instance;
    let locked = instance.database.perform_lock_login(CELL, LoginSlot::A, Some(NEW), force, &instance.fence).await;
    locked.map_err(|error| error.sqlstate.unwrap())
}

/// What a replica does every few seconds.
fn sweep(api: &InProcessApi) {
    let snapshot = Arc::clone(&api.context.registry.snapshot());
    api.context.database.pool().sweep(|cell| snapshot.cells.get(cell).map(|cell| cell.version));
}

async fn an_open_transaction_of_the_old_login_is_not_cut(version: PgVersion) {
    let mut api = InProcessApi::on(version, &["acme", "beta"], |_| {}).await;
    let schema = crate::setup::tenant_id("acme").database_name(&api.instance.prefix);
    // A transaction of ours that waits for somebody else's lock.
    let mut blocker = api.instance.admin().await;
    let hold = format!("BEGIN; LOCK TABLE \"{schema}\".messages IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut blocker).await.unwrap();
    let path = "/api/v1/tenants/acme/chat";
    let body = json!({"message": "hello"});
    let token = super::in_process::token("acme", "ann");
    let waiting = api.request(axum::http::Method::POST, path, Some(&token), Some(&body));
    let call = tokio::spawn(api.pending_answer(waiting));
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the call waits", async || api.instance.count(stuck).await == 1).await;

    set(&api).await;
    switch(&mut api, "new-password").await;
    sweep(&api);
    api.chat("beta", "ann", &json!({"message": "elsewhere"})).await.ok();
    eventually("one old, one new session", async || sessions(&api).await == (1, 1)).await;
    assert_eq!(lock(&api, false).await, Err("ATR01".to_owned()));
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    assert_eq!(call.await.unwrap().status, 200);
    sweep(&api);
    eventually("the old session is gone", async || sessions(&api).await.0 == 0).await;
    lock(&api, false).await.unwrap();
    for tenant in ["acme", "beta"] {
        api.chat(tenant, "ann", &body).await.ok();
    }
    assert_eq!(api.count("acme", "SELECT count(*) FROM {schema}.messages WHERE status <> 'failed'").await, 4);
}

async fn complete(State(gate): State<Arc<Semaphore>>, Json(_): Json<Value>) -> Json<Value> {
    gate.acquire().await.unwrap().forget();
    let choices = json!([{"message": {"role": "assistant", "content": "late"}}]);
    Json(json!({"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "choices": choices}))
}

async fn a_chat_that_began_with_the_old_login_ends_with_the_new_one(version: PgVersion) {
    let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
    let gate = Arc::new(Semaphore::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&gate));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut slow = agent("a1");
    slow["current"]["behaviour"]["provider"] = json!({"type": "OpenAICompatible", "baseUrl": base_url});
    api.apply("agent-a1", &slow).await;
    api.settled().await;
    let body = json!({"message": "hello"});
    let token = super::in_process::token("acme", "ann");
    let request = api.request(axum::http::Method::POST, "/api/v1/tenants/acme/chat", Some(&token), Some(&body));
    let call = tokio::spawn(api.pending_answer(request));
    let stored = "SELECT count(*) FROM {schema}.messages";
    eventually("the question is stored", async || api.count("acme", stored).await == 1).await;

    // The whole rotation falls between the call's two transactions.
    set(&api).await;
    switch(&mut api, "new-password").await;
    sweep(&api);
    eventually("the old session is gone", async || sessions(&api).await.0 == 0).await;
    lock(&api, false).await.unwrap();
    gate.add_permits(1);
    let answer = call.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body["message"]), (200, &json!("late")));
    assert_eq!(sessions(&api).await, (0, 1));
}

async fn idle_connections_of_the_old_login_are_closed(version: PgVersion) {
    let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
    api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    assert_eq!(api.context.database.pool().usage().open, 1);
    sweep(&api);
    assert_eq!(api.context.database.pool().usage().open, 1, "what is in use stays");
    set(&api).await;
    switch(&mut api, "new-password").await;
    sweep(&api);
    assert_eq!(api.context.database.pool().usage().open, 0);
    eventually("no session is left", async || sessions(&api).await == (0, 0)).await;
}

async fn a_login_that_is_refused_changes_nothing(version: PgVersion) {
    let mut api = InProcessApi::on(version, &["acme"], |_| {}).await;
    api.chat("acme", "ann", &json!({"message": "hello"})).await.ok();
    set(&api).await;
    switch(&mut api, "not-the-password").await;
    let progress = api.context.registry.progress().borrow().clone();
    assert_eq!(progress.quarantined.len(), 1, "named in the acknowledgement: {progress:?}");
    api.chat("acme", "ann", &json!({"message": "still here"})).await.ok();
    switch(&mut api, "new-password").await;
    let progress = api.context.registry.progress().borrow().clone();
    assert_eq!(progress.quarantined.len(), 0, "{progress:?}");
    api.chat("acme", "ann", &json!({"message": "and now"})).await.ok();
    let login = CellRoles::of(&api.instance.prefix, CELL).login(LoginSlot::B).to_owned();
    PgConnection::connect(&api.instance.test.url(&login, "new-password")).await.unwrap().close().await.unwrap();
}
