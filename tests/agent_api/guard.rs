//! The guarded way to the database: clients that leave, roles that are missing, servers that go away.

use super::in_process::{InProcessApi, token};
use crate::setup::on_both;
use axum::http::Method;
use devkit::PgVersion;
use futures::poll;
use serde_json::json;
use sqlx::{AssertSqlSafe, Row};
use std::{pin::pin, task::Poll, time::Duration};

on_both!(
    a_client_may_leave_at_every_await,
    a_role_that_cannot_be_taken_leaves_a_clean_connection,
    dead_connections_are_replaced_without_a_failed_request,
    one_tenant_cannot_take_all_connections,
    without_prepared_statements_everything_works_too,
);

/// A call of `beta` on the one connection: clean, and as nobody else.
async fn next_tenant_is_clean(api: &InProcessApi, note: &str) {
    let answer = api.chat("beta", "bob", &json!({"message": "after"})).await;
    assert_eq!(answer.status, 200, "{note}: {}", answer.body);
    let foreign = api.count("beta", "SELECT count(*) FROM {schema}.messages WHERE sub <> 'bob'").await;
    assert_eq!(foreign, 0, "{note}");
}

async fn a_client_may_leave_at_every_await(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme", "beta"], |s| s.database.connection_budget = 1).await;
    let path = "/api/v1/tenants/acme/chat";
    let mut polls = 0;
    let mut left = 0;
    loop {
        let body = json!({"message": format!("leaves after {polls} polls")});
        let request = api.request(Method::POST, path, Some(&token("acme", "ann")), Some(&body));
        let finished = {
            let mut call = pin!(api.pending(request));
            let mut finished = false;
            for _ in 0..polls {
                if poll!(call.as_mut()) == Poll::Ready(()) {
                    finished = true;
                    break;
                }
                // Let what the call waits for happen, or nearly happen.
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            finished
        };
        next_tenant_is_clean(&api, &format!("after {polls} polls")).await;
        if finished {
            break;
        }
        left += 1;
        polls += 1;
        assert!(polls < 500, "a call that never ends");
    }
    println!("a client left a chat call {left} times");
    // Everything that got as far as a task was answered and counted, though nobody listened.
    api.context.tasks.close();
    api.context.tasks.wait().await;
    let questions = api.count("acme", "SELECT count(*) FROM {schema}.messages WHERE role = 'user'").await;
    let unanswered = api.count("acme", "SELECT count(*) FROM {schema}.messages WHERE status = 'pending'").await;
    let counted = api.count("acme", "SELECT count(*) FROM {schema}.usage WHERE outcome = 'ok'").await;
    assert_eq!((unanswered, counted), (0, questions));
    assert!(questions >= 1);
    assert_eq!(api.context.database.pool().usage().open, 1);
}

async fn a_role_that_cannot_be_taken_leaves_a_clean_connection(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme", "beta"], |s| s.database.connection_budget = 1).await;
    api.chat("acme", "ann", &json!({"message": "before"})).await.ok();
    // What the operator does first when it deletes a tenant.
    let prefix = &api.instance.prefix;
    let role = crate::setup::tenant_id("acme").database_name(prefix);
    let groups = "SELECT string_agg(quote_ident(g.rolname), ', ') FROM pg_auth_members m \
                  JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles g ON g.oid = m.member WHERE r.rolname = $1";
    let mut admin = api.instance.admin().await;
    let members: String = sqlx::query(groups).bind(&role).fetch_one(&mut admin).await.unwrap().get(0);
    let owner: String = sqlx::query("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1")
        .bind(&role)
        .fetch_one(&mut admin)
        .await
        .unwrap()
        .get(0);
    let revoke = format!("SET ROLE {owner}; REVOKE \"{role}\" FROM {members}; RESET ROLE");
    let revoked = sqlx::raw_sql(AssertSqlSafe(revoke)).execute(&mut admin).await;
    revoked.unwrap();
    for _ in 0..3 {
        let answer = api.chat("acme", "ann", &json!({"message": "now"})).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "tenant_not_served"));
        next_tenant_is_clean(&api, "after a refused role").await;
    }
}

async fn dead_connections_are_replaced_without_a_failed_request(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme"], |_| {}).await;
    for _ in 0..3 {
        api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
        let killed = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE application_name = 'agent-api' AND datname = current_database()";
        assert!(api.instance.count(killed).await >= 1);
    }
    api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
}

async fn one_tenant_cannot_take_all_connections(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme", "beta"], |s| {
        s.database.connection_budget = 8;
        s.database.acquire_timeout_millis = 300;
        s.limits.tenant_share_percent = 50;
    })
    .await;
    // Holds acme's table, so that its transactions stay open.
    let mut admin = api.instance.admin().await;
    let schema = crate::setup::tenant_id("acme").database_name(&api.instance.prefix);
    let lock = format!("BEGIN; LOCK TABLE \"{schema}\".messages IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut admin).await.unwrap();
    let message = json!({"message": "stuck"});
    let calls: Vec<_> = (0..12).map(|_| api.chat("acme", "ann", &message)).collect();
    let stuck = futures::future::join_all(calls);
    let others = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let answer = api.chat("beta", "bob", &json!({"message": "free?"})).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.unwrap();
        answer
    };
    let (stuck, other) = tokio::join!(stuck, others);
    other.ok();
    let busy = stuck.iter().filter(|a| (a.status.as_u16(), a.code()) == (429, "tenant_busy")).count();
    let done = stuck.iter().filter(|a| a.status == 200).count();
    assert_eq!((busy, done), (8, 4), "four transactions at once, the others get 503 with Retry-After");
}

async fn without_prepared_statements_everything_works_too(version: PgVersion) {
    let api = InProcessApi::on(version, &["acme"], |s| s.database.prepared_statements = false).await;
    let first = api.chat("acme", "ann", &json!({"message": "hi"})).await.ok();
    let next = json!({"message": "again", "conversationId": first["conversationId"]});
    api.chat("acme", "ann", &next).await.ok();
    let page = api.get("/api/v1/tenants/acme/chat", &token("acme", "ann")).await.ok();
    assert_eq!(page["messages"].as_array().unwrap().len(), 4);
}
