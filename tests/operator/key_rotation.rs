//! Rotations of signing keys under load: signers that read their key late, an operator that is killed, replicas that are
//! replaced. No valid token is refused, and no revoked key is accepted.

use super::{
    installation::{Installation, LONG},
    load::{Calls, Load},
};
use agent_tenancy::{
    api::{KeyStatusState, names},
    domain::keyring::Keyring,
};
use anyhow::Context as _;
use devkit::{Component, PgVersion, RunningReplica, SigningKey, TestToken, eventually};
use k8s_openapi::ByteString;
use kube::api::PostParams;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

on_each_postgres!(
    a_key_that_has_signed_for_its_period_is_replaced,
    a_revoked_key_is_refused_within_two_seconds_and_another_key_signs,
);

/// How late signers may be, in seconds; `GRACE=300` for a soak.
fn grace() -> u64 {
    std::env::var("GRACE").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn rotations() -> usize {
    std::env::var("ROTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// The URLs of the replicas that are called; some replicas are replaced during the test.
type Replicas = Arc<Mutex<Vec<String>>>;

/// Calls every replica, with tokens of keys that were read up to `grace` ago.
fn load(installation: &Installation, tenant: &str, replicas: &Replicas) -> Load {
    let (secrets, tenant, replicas) = (installation.secrets.clone(), tenant.to_owned(), Arc::clone(replicas));
    let (client, read) = (reqwest::Client::new(), Arc::new(Mutex::new(VecDeque::<(Instant, SigningKey)>::new())));
    Load::start(move || {
        let (secrets, tenant, client) = (secrets.clone(), tenant.clone(), client.clone());
        let (replicas, read) = (Arc::clone(&replicas), Arc::clone(&read));
        async move {
            let secret = secrets.get(&format!("{tenant}-signing-keys")).await;
            let keys = {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(secret) = secret {
                    read.push_back((Instant::now(), SigningKey::from_secret(&secret)?));
                }
                // A little less than the grace period: the token has to arrive as well.
                let late = Duration::from_secs(grace()).saturating_sub(Duration::from_millis(500));
                while read.len() > 1 && read.front().is_some_and(|(at, _)| at.elapsed() > late) {
                    read.pop_front();
                }
                [read.front(), read.back()].map(|key| key.map(|(_, key)| key.clone()))
            };
            let replicas = replicas.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut calls = Calls::default();
            for key in keys.into_iter().flatten() {
                let token = TestToken::new(&tenant, "load").scope("chat:write settings:read").sign(&key)?;
                for replica in &replicas {
                    let url = format!("{replica}/api/v1/tenants/{tenant}/settings");
                    // A replica that is being killed does not answer; that is not a refusal.
                    let Ok(answer) = client.get(url).bearer_auth(&token).send().await else { continue };
                    calls.count((answer.status() == 401).then(|| format!("{} at {replica}", key.kid)));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(calls)
        }
    })
}

async fn current_kid(installation: &Installation, tenant: &str) -> anyhow::Result<String> {
    let status = installation.tenants.get(tenant).await?.status.context("a status")?;
    status.keys.and_then(|keys| keys.current_kid).context("a key that signs")
}

/// The longest life of a token of `acme`, in seconds. Short tokens make short-lived previous keys, so that the keyring has room again soon.
const TOKEN: u64 = 60;

/// Asks for a rotation and waits until another key signs. A full keyring has room when its oldest key has expired.
pub async fn rotate(installation: &Installation, tenant: &str, n: usize) -> anyhow::Result<String> {
    let before = current_kid(installation, tenant).await?;
    installation.annotate(tenant, names::ROTATE_ANNOTATION, format!("rotation-{n}").as_str()).await?;
    eventually(LONG + Duration::from_secs(grace() + TOKEN), &format!("rotation {n}"), || async {
        let now = current_kid(installation, tenant).await?;
        anyhow::ensure!(now != before, "{now} still signs");
        Ok(now)
    })
    .await
}

async fn set_algorithm(installation: &Installation, tenant: &str, algorithm: &str) -> anyhow::Result<()> {
    installation
        .patch(tenant, json!({ "spec": { "auth": { "algorithm": algorithm, "maxTokenSeconds": TOKEN } } }))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rotations_under_load_refuse_no_valid_token() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::NEWEST).await?;
    installation.set(Component::Operator, "AGENT_TENANCY__SIGNER_GRACE_SECONDS", grace().to_string());
    let mut operator = installation.operator("one").await?;
    let first = installation.replica().await?;
    let mut second = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    set_algorithm(&installation, "acme", "HS256").await?;
    installation.wait_ready("acme").await?;
    let replicas = Replicas::new(Mutex::new(vec![first.url.clone(), second.url.clone()]));
    let load = load(&installation, "acme", &replicas);
    for n in 0..rotations() {
        match n % 5 {
            1 => {
                operator.process.kill_9().await?;
                operator = installation.operator("one").await?;
            }
            3 => {
                second.process.kill_9().await?;
                second = installation.replica().await?;
                let urls = vec![first.url.clone(), second.url.clone()];
                *replicas.lock().unwrap_or_else(PoisonError::into_inner) = urls;
            }
            _ => {}
        }
        if n == 7 {
            set_algorithm(&installation, "acme", "EdDSA").await?;
        } else if n == 13 {
            set_algorithm(&installation, "acme", "ES256").await?;
        }
        rotate(&installation, "acme", n).await?;
    }
    let Calls { asked, failed: refused } = load.end().await?;
    println!(
        "{} rotations, {asked} requests with keys read up to {} s ago, {} refused",
        rotations(),
        grace(),
        refused.len()
    );
    anyhow::ensure!(asked > 100, "only {asked} requests were answered");
    anyhow::ensure!(refused.is_empty(), "refused: {refused:?}");
    drop(first);
    Ok(())
}

/// A key that has signed for its whole period is replaced automatically. The old key still verifies.
async fn a_key_that_has_signed_for_its_period_is_replaced(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let operator = installation.operator("one").await?;
    let replica = installation.replica().await?;
    let url = replica.url.clone();
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    // Instead of waiting an hour, the test makes the key two hours older, in the Secret and in the ledger's digest.
    operator.process.kill_9().await?;
    let mut secret = installation.secrets.get("acme-signing-keys").await?;
    let data = secret.data.as_mut().context("the Secret has data")?;
    let mut keyring: Value = serde_json::from_slice(&data.get(names::KEYRING).context("a keyring")?.0)?;
    let made: jiff::Timestamp = serde_json::from_value(keyring["keys"][0]["since"].clone())?;
    keyring["keys"][0]["since"] = serde_json::to_value(made - jiff::SignedDuration::from_hours(2))?;
    data.insert(names::KEYRING.to_owned(), ByteString(serde_json::to_vec(&keyring)?));
    let mark = Keyring::parse_secret(|key| data.get(key).map(|bytes| bytes.0.as_slice()))?.mark();
    let old = SigningKey::from_secret(&secret)?;
    installation.secrets.replace("acme-signing-keys", &PostParams::default(), &secret).await?;
    let note = format!("UPDATE agent_tenancy.tenants SET ring_digest = '{}' WHERE tenant_id = 'acme'", mark.digest);
    installation.execute(&note).await?;
    let _operator = installation.operator("one").await?;
    installation.wait_ready("acme").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(current_kid(&installation, "acme").await?, old.kid, "without a period it is not replaced");

    installation.patch("acme", json!({ "spec": { "auth": { "rotationPeriodSeconds": 3600 } } })).await?;
    eventually(LONG, "another key signs", || async {
        anyhow::ensure!(current_kid(&installation, "acme").await? != old.kid, "the old one still signs");
        Ok(())
    })
    .await?;
    let next = installation.signing_key("acme").await?;
    for key in [&old, &next] {
        let settings = format!("{url}/api/v1/tenants/acme/settings");
        let answer = reqwest::Client::new()
            .get(settings)
            .bearer_auth(TestToken::new("acme", "load").scope("chat:write settings:read").sign(key)?)
            .send()
            .await?;
        assert_eq!(answer.status().as_u16(), 200, "{}", key.kid);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(current_kid(&installation, "acme").await?, next.kid, "the new key has just begun to sign");
    Ok(())
}

async fn a_revoked_key_is_refused_within_two_seconds_and_another_key_signs(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _operator = installation.operator("one").await?;
    let replicas = [installation.replica().await?, installation.replica().await?];
    installation.agent("support", "You help.").await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;
    let stolen = installation.signing_key("acme").await?;
    let client = reqwest::Client::new();
    let ask = async |url: &str, key: &SigningKey| -> anyhow::Result<u16> {
        let url = format!("{url}/api/v1/tenants/acme/settings");
        Ok(client
            .get(url)
            .bearer_auth(TestToken::new("acme", "load").scope("chat:write settings:read").sign(key)?)
            .send()
            .await?
            .status()
            .as_u16())
    };
    for RunningReplica { url, .. } in &replicas {
        assert_eq!(ask(url, &stolen).await?, 200);
    }
    let revoked = Instant::now();
    installation.annotate("acme", names::REVOKE_ANNOTATION, stolen.kid.as_str()).await?;
    for RunningReplica { url, .. } in &replicas {
        eventually(Duration::from_secs(10), "the stolen key is refused", || async {
            let answer = ask(url, &stolen).await?;
            anyhow::ensure!(answer == 401, "{answer}");
            Ok(())
        })
        .await?;
    }
    let took = revoked.elapsed();
    println!("revoked on both replicas after {took:.0?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let next = eventually(LONG, "another key signs", || async {
        let next = installation.signing_key("acme").await?;
        anyhow::ensure!(next.kid != stolen.kid, "the stolen key still signs");
        Ok(next)
    })
    .await?;
    for RunningReplica { url, .. } in &replicas {
        assert_eq!(ask(url, &next).await?, 200);
        assert_eq!(ask(url, &stolen).await?, 401);
    }
    eventually(LONG, "the status reports it", || async {
        let keys = installation.tenants.get("acme").await?.status.and_then(|s| s.keys).context("keys")?;
        let states: Vec<_> = keys.ring.iter().map(|k| k.state).collect();
        anyhow::ensure!(states == [KeyStatusState::Current], "{states:?}");
        Ok(())
    })
    .await?;
    Ok(())
}
