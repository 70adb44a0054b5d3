//! The cells' logins to the database are rotated under load, by an operator that dies on the way, by its age, and in an
//! emergency; directly and behind a pgbouncer.

use super::{
    fleet::{Fleet, LONG},
    load::{Calls, Load},
    stories::settle,
};
use agent_tenancy::api::names;
use anyhow::Context as _;
use base64::{Engine, prelude::BASE64_STANDARD};
use devkit::{Component, Environment, PgBouncer, PgVersion, Postgres, TestToken, eventually};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use std::{sync::Arc, time::Duration};

on_each_postgres!(
    logins_are_rotated_and_nobody_notices,
    a_leaked_login_is_revoked_with_its_sessions,
    an_entry_that_somebody_deleted_is_written_anew,
    all_of_it_behind_a_pgbouncer,
);

/// Chats and settings of some tenants at every replica.
async fn load(fleet: &Fleet, tenants: &[&str], replicas: &[String]) -> anyhow::Result<Load> {
    let mut users = Vec::new();
    for tenant in tenants {
        users.push(((*tenant).to_owned(), fleet.signing_key(tenant).await?));
    }
    let (users, replicas, client) = (Arc::new(users), Arc::new(replicas.to_vec()), reqwest::Client::new());
    Ok(Load::start(move || {
        let (users, replicas, client) = (Arc::clone(&users), Arc::clone(&replicas), client.clone());
        async move {
            let mut calls = Calls::default();
            for (tenant, key) in users.iter() {
                let token = TestToken::new(tenant, "load").sign(key)?;
                let requests = replicas.iter().flat_map(|replica| {
                    let chat = format!("{replica}/api/v1/tenants/{tenant}/chat");
                    let settings = format!("{replica}/api/v1/tenants/{tenant}/settings");
                    [client.post(chat).json(&json!({ "message": "load" })), client.get(settings)]
                });
                let requests = requests.map(|request| request.bearer_auth(&token).send());
                for answer in futures::future::join_all(requests).await {
                    let answer = answer?;
                    let failure = match answer.status().as_u16() {
                        200 => None,
                        _ => Some(format!("{tenant}: {}", answer.text().await?)),
                    };
                    calls.count(failure);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(calls)
        }
    }))
}

fn secret(cell: u32) -> String {
    format!("cell-main-{cell}")
}

async fn annotate(fleet: &Fleet, cell: u32, annotation: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { annotation: value } } });
    fleet.registry.patch(&secret(cell), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The login in a cell's entry, and its password.
async fn login(fleet: &Fleet, cell: u32) -> anyhow::Result<(String, String)> {
    let entry = fleet.entry(&secret(cell)).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
    let password = BASE64_STANDARD.decode(text(&entry["password"])?)?;
    Ok((text(&entry["user"])?, String::from_utf8(password)?))
}

async fn log_in(fleet: &Fleet, (user, password): &(String, String)) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = fleet.database.superuser_url().parse()?;
    Ok(options.username(user).password(password).extra_float_digits(None).connect().await?)
}

/// Waits until a cell has another login than this one, which is locked; the new one.
async fn wait_rotated(fleet: &Fleet, cell: u32, old: &str) -> anyhow::Result<(String, String)> {
    let locked = format!("SELECT rolcanlogin::text FROM pg_roles WHERE rolname = '{old}'");
    eventually(LONG, &format!("login {old} is locked"), || async {
        let now = login(fleet, cell).await?;
        anyhow::ensure!(now.0 != old, "it is still in use");
        anyhow::ensure!(fleet.column(locked.clone()).await? == ["false"], "it can still log in");
        Ok(now)
    })
    .await
}

async fn logins_are_rotated_and_nobody_notices(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({ "agentApi": { "replicaSource": "Leases" }, "database": { "tenantsPerCell": 2 } });
    let fleet = Fleet::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let mut operator = fleet.operator("one").await?;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(fleet.replica().await?);
    }
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    fleet.agent("support", "You help.").await?;
    // Cells are opened and filled on their own.
    for name in ["acme", "beta", "gamma"] {
        fleet.tenant(name, "Delete").await?;
        fleet.wait_ready(name).await?;
    }
    let cells = "SELECT cell::text FROM agent_tenancy.tenants ORDER BY tenant_id".to_owned();
    assert_eq!(fleet.column(cells).await?, ["1", "1", "2"]);
    assert_eq!(fleet.entries("cell").await?, ["cell-main-1", "cell-main-2"]);
    settle(&fleet).await?;
    let calls = load(&fleet, &["acme", "beta", "gamma"], &urls).await?;

    // Asked for.
    let (before, other) = (login(&fleet, 1).await?, fleet.registry.get(&secret(2)).await?.metadata.resource_version);
    annotate(&fleet, 1, names::ROTATE_LOGIN_ANNOTATION, "please").await?;
    let now = wait_rotated(&fleet, 1, &before.0).await?;
    assert!(log_in(&fleet, &before).await.is_err(), "the old login is refused");
    log_in(&fleet, &now).await?.close().await?;
    assert_eq!(fleet.registry.get(&secret(2)).await?.metadata.resource_version, other, "nobody else's is touched");
    let kept = fleet.registry.get(&secret(1)).await?;
    assert_eq!(kept.metadata.annotations.context("annotations")?[names::ROTATE_LOGIN_ANNOTATION], "please");
    assert!(!kept.data.context("data")?.contains_key(names::NEXT_LOGIN_KEY), "nothing is left of the rotation");
    let steps = operator.metrics().await?;
    for step in ["prepared", "set", "switched", "locked"] {
        assert_eq!(steps.get(&format!("tenant_operator_login_steps_total{{step=\"{step}\"}}")), Some(&1.0), "{step}");
    }
    settle(&fleet).await?;

    // The same value asks for nothing; and with nothing due there is nothing to do.
    annotate(&fleet, 1, names::ROTATE_LOGIN_ANNOTATION, "please").await?;
    settle(&fleet).await?;
    let (versions, counted) = (fleet.version_of_all().await?, operator.metrics().await?);
    let trips = operator.round_trips().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(fleet.version_of_all().await?, versions);
    assert_eq!((operator.requests_since(&counted).await?.len(), operator.round_trips().await?), (0, trips));

    // An operator that is killed at any moment of it: the next one goes on.
    for round in 0..6_u64 {
        let before = login(&fleet, 1).await?;
        annotate(&fleet, 1, names::ROTATE_LOGIN_ANNOTATION, &format!("round {round}")).await?;
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        operator.process.kill_9().await?;
        operator = fleet.operator("one").await?;
        wait_rotated(&fleet, 1, &before.0).await?;
    }

    // By age: seen at the next look, and a start is one.
    let both = (login(&fleet, 1).await?, login(&fleet, 2).await?);
    fleet.execute("UPDATE agent_tenancy.cells SET login_since = now() - interval '31 days'").await?;
    operator.process.kill_9().await?;
    let operator = fleet.operator("one").await?;
    wait_rotated(&fleet, 1, &both.0.0).await?;
    wait_rotated(&fleet, 2, &both.1.0).await?;
    let Calls { asked, failed } = calls.end().await?;
    println!("{asked} calls over nine rotations, {} failed", failed.len());
    assert!(asked > 200 && failed.is_empty(), "{failed:?}");
    settle(&fleet).await?;
    let counted = operator.metrics().await?;
    for what in ["replicas", "sessions", "refusing_replicas"] {
        let name = format!("tenant_operator_login_rotations_waiting{{instance=\"main\",what=\"{what}\"}}");
        assert_eq!(counted.get(&name), Some(&0.0), "{name}");
    }
    Ok(())
}

async fn a_leaked_login_is_revoked_with_its_sessions(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let leaked = login(&fleet, 1).await?;
    let mut thief = log_in(&fleet, &leaked).await?;
    // A plain rotation lets him be, and says so.
    annotate(&fleet, 1, names::ROTATE_LOGIN_ANNOTATION, "now").await?;
    eventually(LONG, "replicas have another login", || async {
        anyhow::ensure!(login(&fleet, 1).await?.0 != leaked.0, "not yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    sqlx::raw_sql("SELECT 1").execute(&mut thief).await?;
    let second = login(&fleet, 1).await?;
    annotate(&fleet, 1, names::REVOKE_LOGIN_ANNOTATION, "leaked").await?;
    wait_rotated(&fleet, 1, &second.0).await?;
    eventually(LONG, "his session is ended", || {
        let ended = format!("SELECT count(*)::text FROM pg_stat_activity WHERE usename = '{}'", second.0);
        let fleet = &fleet;
        async move {
            anyhow::ensure!(fleet.column(ended).await? == ["0"], "there are sessions of the revoked login");
            Ok(())
        }
    })
    .await?;
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut thief).await.is_err(), "he is out");
    assert!(log_in(&fleet, &leaked).await.is_err() && log_in(&fleet, &second).await.is_err());
    let calls = load(&fleet, &["acme"], &[url]).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    Ok(())
}

async fn an_entry_that_somebody_deleted_is_written_anew(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _operator = fleet.operator("one").await?;
    let replica = fleet.replica().await?;
    let url = replica.url.clone();
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let calls = load(&fleet, &["acme"], &[url]).await?;
    let before = login(&fleet, 1).await?;
    fleet.registry.delete(&secret(1), &Default::default()).await?;
    eventually(LONG, "there is an entry again", || async { login(&fleet, 1).await }).await?;
    wait_rotated(&fleet, 1, &before.0).await?;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    // Who begins now finds what it needs.
    let fresh = fleet.replica().await?;
    let url = fresh.url.clone();
    let calls = load(&fleet, &["acme"], &[url]).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Once with the pooler before the agent API alone, and once before the operator, too.
async fn all_of_it_behind_a_pgbouncer(version: PgVersion) -> anyhow::Result<()> {
    for (port, who) in [("AGENT_API_PORT", "the agent API"), ("PORT", "everybody")] {
        let mut fleet = Fleet::new(version).await?;
        let pooler = PgBouncer::start(&fleet.database, &fleet.database.prefix, 2).await?;
        fleet.set(Component::Operator, &format!("AGENT_TENANCY__DATABASE__{port}"), pooler.port().to_string());
        fleet.set(Component::AgentApi, "AGENT_TENANCY__DATABASE__PREPARED_STATEMENTS", "false");
        let _operator = fleet.operator("one").await?;
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(fleet.replica().await?);
        }
        let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
        fleet.agent("support", "You help.").await?;
        for name in ["acme", "beta"] {
            fleet.tenant(name, "Delete").await?;
            fleet.wait_ready(name).await?;
        }
        assert_eq!(fleet.entry("cell-main-1").await?["port"], json!(pooler.port()), "{who}");
        let calls = load(&fleet, &["acme", "beta"], &urls).await?;
        for round in 0..3 {
            let before = login(&fleet, 1).await?;
            annotate(&fleet, 1, names::ROTATE_LOGIN_ANNOTATION, &format!("round {round}")).await?;
            wait_rotated(&fleet, 1, &before.0).await?;
            assert!(log_in(&fleet, &before).await.is_err(), "{who}");
        }
        let Calls { asked, failed } = calls.end().await?;
        println!("a pooler before {who}: {asked} calls over three rotations, {} failed", failed.len());
        assert!(asked > 50 && failed.is_empty(), "{who}: {failed:?}\n{}", pooler.log());
        for name in ["acme", "beta"] {
            fleet.delete(name).await?;
            fleet.wait_gone(name).await?;
        }
        assert_eq!(fleet.schemas().await?, [fleet.schema("pgbouncer_auth")]);
    }
    Ok(())
}
