//! Keys are revoked in an emergency, whatever is wrong with their Tenant or with the database.

use super::{
    installation::{Installation, LONG},
    users::ask,
};
use agent_tenancy::api::names;
use devkit::{Environment, PgVersion, Postgres, SigningKey, TestToken, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

on_each_postgres!(a_revoked_key_is_refused_whatever_is_wrong_with_its_tenant);

/// Revokes a Tenant's key and waits until the replica refuses a token of it.
async fn revoke(installation: &Installation, url: &str, tenant: &str, stolen: &SigningKey) -> anyhow::Result<()> {
    let token = TestToken::new(tenant, "thief").sign(stolen)?;
    assert_ne!(ask(url, tenant, &token, None).await?.0, 401, "{tenant}: the key is good");
    let start = Instant::now();
    installation.annotate(tenant, names::REVOKE_ANNOTATION, stolen.kid.as_str()).await?;
    eventually(Duration::from_secs(10), &format!("{tenant}: the stolen key is refused"), || async {
        let answer = ask(url, tenant, &token, None).await?;
        anyhow::ensure!(answer.0 == 401, "{answer:?}");
        Ok(())
    })
    .await?;
    let took = start.elapsed();
    println!("{tenant}: revoked after {took:.0?}");
    assert!(took < Duration::from_secs(2), "{tenant}: {took:?}");
    Ok(())
}

async fn a_revoked_key_is_refused_whatever_is_wrong_with_its_tenant(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let installation = Installation::on(Environment::shared().await?, &server).await?;
    let _operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.as_str();
    installation.agent("support", "You help.").await?;
    let all = ["no-agent", "invalid", "unknown-kid", "paused", "owner", "outage"];
    for name in all {
        installation.tenant(name, "Delete").await?;
    }
    let mut keys = std::collections::BTreeMap::new();
    for name in all {
        installation.wait_ready(name).await?;
        keys.insert(name, installation.signing_key(name).await?);
    }

    let missing = json!([{ "name": "main", "configRef": { "name": "missing" } }]);
    installation.patch("no-agent", json!({ "spec": { "agents": missing } })).await?;
    installation.wait_condition("no-agent", "Accepted", "False", "AgentConfigNotFound").await?;
    revoke(&installation, url, "no-agent", &keys["no-agent"]).await?;

    installation.annotate("invalid", names::ROTATE_ANNOTATION, "").await?;
    installation.wait_condition("invalid", "Accepted", "False", "InvalidSpec").await?;
    revoke(&installation, url, "invalid", &keys["invalid"]).await?;

    // A list with something that is no kid is refused, and what can be read of it is revoked.
    let stolen = &keys["unknown-kid"];
    let token = TestToken::new("unknown-kid", "thief").sign(stolen)?;
    installation.annotate("unknown-kid", names::REVOKE_ANNOTATION, format!("{}, ?", stolen.kid).as_str()).await?;
    eventually(Duration::from_secs(10), "the readable part of the list is revoked", || async {
        anyhow::ensure!(ask(url, "unknown-kid", &token, None).await?.0 == 401);
        Ok(())
    })
    .await?;

    installation.annotate("paused", names::PAUSED_ANNOTATION, "true").await?;
    installation.wait_condition("paused", "Paused", "True", "Paused").await?;
    revoke(&installation, url, "paused", &keys["paused"]).await?;

    // A Tenant of the same id can't revoke the owner's key, which stands in each of the owner's tokens.
    let rival = json!({ "tenantId": "owner", "database": { "deletionPolicy": "Delete" } });
    installation.tenant_with("rival", rival).await?;
    installation.annotate("rival", names::REVOKE_ANNOTATION, keys["owner"].kid.as_str()).await?;
    installation.wait_condition("rival", "Accepted", "False", "Conflict").await?;

    server.stop_immediate().await?;
    installation.tenant("later", "Delete").await?;
    installation.wait_condition("later", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    revoke(&installation, url, "outage", &keys["outage"]).await?;
    server.start_again().await?;

    // Another key signs once the rest can be done.
    installation.agent("missing", "You help.").await?;
    installation.annotate("invalid", names::ROTATE_ANNOTATION, None).await?;
    installation.annotate("paused", names::PAUSED_ANNOTATION, None).await?;
    for name in ["no-agent", "invalid", "paused", "outage"] {
        installation.wait_ready(name).await?;
        let next = eventually(LONG, &format!("{name}: another key signs"), || async {
            let next = installation.signing_key(name).await?;
            anyhow::ensure!(next.kid != keys[name].kid, "the stolen key still signs");
            Ok(next)
        })
        .await?;
        for (key, status) in [(&next, 200), (&keys[name], 401)] {
            let token = TestToken::new(name, "user").sign(key)?;
            eventually(LONG, &format!("{name}: {status}"), || async {
                let answer = ask(url, name, &token, None).await?;
                anyhow::ensure!(answer.0 == status, "{answer:?}");
                Ok(())
            })
            .await?;
        }
    }
    let token = TestToken::new("owner", "user").sign(&keys["owner"])?;
    assert_eq!(ask(url, "owner", &token, None).await?.0, 200, "the owner's key was not touched");
    Ok(())
}
