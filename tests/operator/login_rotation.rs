//! Rotations of the cells' database logins under load: on request, by age, by an operator that is killed, after a leak;
//! directly and behind PgBouncer.

use super::{
    installation::{Installation, LONG},
    installation_state::settle,
    load::{Calls, Load},
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
    logins_are_rotated_without_a_failed_call,
    a_leaked_login_is_revoked_with_its_sessions,
    a_cell_entry_that_is_deleted_by_hand_is_written_again,
    logins_are_rotated_behind_pgbouncer,
);

/// Chats and settings of some tenants at every replica.
async fn load(installation: &Installation, tenants: &[&str], replicas: &[String]) -> anyhow::Result<Load> {
    let mut users = Vec::new();
    for tenant in tenants {
        users.push(((*tenant).to_owned(), installation.signing_key(tenant).await?));
    }
    let (users, replicas, client) = (Arc::new(users), Arc::new(replicas.to_vec()), reqwest::Client::new());
    Ok(Load::start(move || {
        let (users, replicas, client) = (Arc::clone(&users), Arc::clone(&replicas), client.clone());
        async move {
            let mut calls = Calls::default();
            for (tenant, key) in users.iter() {
                let token = TestToken::new(tenant, "load").scope("chat:write settings:read").sign(key)?;
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

async fn annotate(installation: &Installation, cell: u32, annotation: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { annotation: value } } });
    installation.registry.patch(&secret(cell), &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A login of a cell.
struct Login {
    user: String,
    password: String,
}

/// The login in a cell's entry.
async fn login(installation: &Installation, cell: u32) -> anyhow::Result<Login> {
    let entry = installation.entry(&secret(cell)).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
    let password = BASE64_STANDARD.decode(text(&entry["password"])?)?;
    Ok(Login { user: text(&entry["user"])?, password: String::from_utf8(password)? })
}

async fn log_in(installation: &Installation, login: &Login) -> anyhow::Result<PgConnection> {
    let options: PgConnectOptions = installation.database.superuser_url().parse()?;
    Ok(options.username(&login.user).password(&login.password).extra_float_digits(None).connect().await?)
}

/// Waits until a cell has another login and `old` is locked; returns the new one.
async fn wait_rotated(installation: &Installation, cell: u32, old: &str) -> anyhow::Result<Login> {
    let locked = format!("SELECT rolcanlogin::text FROM pg_roles WHERE rolname = '{old}'");
    eventually(LONG, &format!("login {old} is locked"), || async {
        let now = login(installation, cell).await?;
        anyhow::ensure!(now.user != old, "it is still in use");
        anyhow::ensure!(installation.column(locked.clone()).await? == ["false"], "it can still log in");
        Ok(now)
    })
    .await
}

async fn logins_are_rotated_without_a_failed_call(version: PgVersion) -> anyhow::Result<()> {
    let settings = json!({ "agentApi": { "replicaSource": "Leases" }, "database": { "tenantsPerCell": 2 } });
    let installation =
        Installation::with(Environment::shared().await?, &Postgres::shared(version).await?, settings).await?;
    let mut operator = installation.operator("one").await?;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(installation.replica().await?);
    }
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    installation.agent("support", "You help.").await?;
    // Cells are created and filled automatically.
    for name in ["acme", "beta", "gamma"] {
        installation.tenant(name, "Delete").await?;
        installation.wait_ready(name).await?;
    }
    let cells = "SELECT cell::text FROM agent_tenancy.tenants ORDER BY tenant_id".to_owned();
    assert_eq!(installation.column(cells).await?, ["1", "1", "2"]);
    assert_eq!(installation.entries("cell").await?, ["cell-main-1", "cell-main-2"]);
    settle(&installation).await?;
    let calls = load(&installation, &["acme", "beta", "gamma"], &urls).await?;

    // On request.
    let (before, other) =
        (login(&installation, 1).await?, installation.registry.get(&secret(2)).await?.metadata.resource_version);
    annotate(&installation, 1, names::ROTATE_LOGIN_ANNOTATION, "please").await?;
    let now = wait_rotated(&installation, 1, &before.user).await?;
    assert!(log_in(&installation, &before).await.is_err(), "the old login is refused");
    log_in(&installation, &now).await?.close().await?;
    assert_eq!(
        installation.registry.get(&secret(2)).await?.metadata.resource_version,
        other,
        "the other cell is not changed"
    );
    let kept = installation.registry.get(&secret(1)).await?;
    assert_eq!(kept.metadata.annotations.context("annotations")?[names::ROTATE_LOGIN_ANNOTATION], "please");
    assert!(!kept.data.context("data")?.contains_key(names::NEXT_LOGIN_KEY), "nothing is left of the rotation");
    let steps = operator.metrics().await?;
    for step in ["prepared", "set", "switched", "locked"] {
        assert_eq!(steps.get(&format!("tenant_operator_login_steps_total{{step=\"{step}\"}}")), Some(&1.0), "{step}");
    }
    settle(&installation).await?;

    // The same value again requests nothing, and nothing is done when no rotation is due.
    annotate(&installation, 1, names::ROTATE_LOGIN_ANNOTATION, "please").await?;
    settle(&installation).await?;
    let (versions, counted) = (installation.version_of_all().await?, operator.metrics().await?);
    let trips = operator.round_trips().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(installation.version_of_all().await?, versions);
    assert_eq!((operator.requests_since(&counted).await?.len(), operator.round_trips().await?), (0, trips));

    // The operator is killed during rotations, and the next one continues them.
    for round in 0..6_u64 {
        let before = login(&installation, 1).await?;
        annotate(&installation, 1, names::ROTATE_LOGIN_ANNOTATION, &format!("round {round}")).await?;
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        operator.process.kill_9().await?;
        operator = installation.operator("one").await?;
        wait_rotated(&installation, 1, &before.user).await?;
    }

    // By age, which is checked at each start among others.
    let both = (login(&installation, 1).await?, login(&installation, 2).await?);
    installation.execute("UPDATE agent_tenancy.cells SET login_since = now() - interval '31 days'").await?;
    operator.process.kill_9().await?;
    let operator = installation.operator("one").await?;
    wait_rotated(&installation, 1, &both.0.user).await?;
    wait_rotated(&installation, 2, &both.1.user).await?;
    let Calls { asked, failed } = calls.end().await?;
    println!("{asked} calls over nine rotations, {} failed", failed.len());
    assert!(asked > 200 && failed.is_empty(), "{failed:?}");
    settle(&installation).await?;
    let counted = operator.metrics().await?;
    for what in ["replicas", "sessions", "refusing_replicas"] {
        let name = format!("tenant_operator_login_rotations_waiting{{instance=\"main\",what=\"{what}\"}}");
        assert_eq!(counted.get(&name), Some(&0.0), "{name}");
    }
    Ok(())
}

async fn a_leaked_login_is_revoked_with_its_sessions(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let leaked = login(&installation, 1).await?;
    let mut thief = log_in(&installation, &leaked).await?;
    // A plain rotation does not end the session of the thief.
    annotate(&installation, 1, names::ROTATE_LOGIN_ANNOTATION, "now").await?;
    eventually(LONG, "replicas have another login", || async {
        anyhow::ensure!(login(&installation, 1).await?.user != leaked.user, "not yet");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    sqlx::raw_sql("SELECT 1").execute(&mut thief).await?;
    let second = login(&installation, 1).await?;
    annotate(&installation, 1, names::REVOKE_LOGIN_ANNOTATION, "leaked").await?;
    wait_rotated(&installation, 1, &second.user).await?;
    eventually(LONG, "the session of the thief is ended", || {
        let ended = format!("SELECT count(*)::text FROM pg_stat_activity WHERE usename = '{}'", second.user);
        let installation = &installation;
        async move {
            anyhow::ensure!(installation.column(ended).await? == ["0"], "there are sessions of the revoked login");
            Ok(())
        }
    })
    .await?;
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut thief).await.is_err(), "the session still works");
    assert!(log_in(&installation, &leaked).await.is_err() && log_in(&installation, &second).await.is_err());
    let calls = load(&installation, &["acme"], &[url]).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    Ok(())
}

async fn a_cell_entry_that_is_deleted_by_hand_is_written_again(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let calls = load(&installation, &["acme"], &[url]).await?;
    let before = login(&installation, 1).await?;
    installation.registry.delete(&secret(1), &Default::default()).await?;
    eventually(LONG, "there is an entry again", || async { login(&installation, 1).await }).await?;
    wait_rotated(&installation, 1, &before.user).await?;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    // A replica that starts now finds the entry.
    let fresh = installation.replica().await?;
    let url = fresh.url.clone();
    let calls = load(&installation, &["acme"], &[url]).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let Calls { asked, failed } = calls.end().await?;
    assert!(asked > 0 && failed.is_empty(), "{failed:?}");
    Ok(())
}

/// Once with the pooler in front of the agent API only, and once in front of the operator too.
async fn logins_are_rotated_behind_pgbouncer(version: PgVersion) -> anyhow::Result<()> {
    for (port, programs) in [("AGENT_API_PORT", "the agent API"), ("PORT", "all programs")] {
        let mut installation = Installation::new(version).await?;
        let pooler = PgBouncer::start(&installation.database, &installation.database.prefix, 2).await?;
        installation.set(Component::Operator, &format!("AGENT_TENANCY__DATABASE__{port}"), pooler.port().to_string());
        installation.set(Component::AgentApi, "AGENT_TENANCY__DATABASE__PREPARED_STATEMENTS", "false");
        let _operator = installation.operator("one").await?;
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(installation.replica().await?);
        }
        let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
        installation.agent("support", "You help.").await?;
        for name in ["acme", "beta"] {
            installation.tenant(name, "Delete").await?;
            installation.wait_ready(name).await?;
        }
        assert_eq!(installation.entry("cell-main-1").await?["port"], json!(pooler.port()), "{programs}");
        let calls = load(&installation, &["acme", "beta"], &urls).await?;
        for round in 0..3 {
            let before = login(&installation, 1).await?;
            annotate(&installation, 1, names::ROTATE_LOGIN_ANNOTATION, &format!("round {round}")).await?;
            wait_rotated(&installation, 1, &before.user).await?;
            assert!(log_in(&installation, &before).await.is_err(), "{programs}");
        }
        let Calls { asked, failed } = calls.end().await?;
        println!("a pooler in front of {programs}: {asked} calls over three rotations, {} failed", failed.len());
        assert!(asked > 50 && failed.is_empty(), "{programs}: {failed:?}\n{}", pooler.log());
        for name in ["acme", "beta"] {
            installation.delete(name).await?;
            installation.wait_gone(name).await?;
        }
        assert_eq!(installation.schemas().await?, [installation.schema("pgbouncer_auth")]);
    }
    Ok(())
}
