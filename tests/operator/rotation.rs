//! Twenty rotations under load: signers that read their key late, an operator that is killed and replicas that come and
//! go. No valid token is refused, and no revoked one accepted.

use super::{
    clients::Signer,
    fleet::{Fleet, LONG},
};
use agent_tenancy::{
    api::{KeyStatusState, names},
    domain::keyring::Keyring,
};
use anyhow::Context as _;
use devkit::{Component, PgVersion, eventually};
use k8s_openapi::ByteString;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

on_each_postgres!(
    a_key_that_has_signed_for_its_period_is_replaced,
    a_revoked_key_is_refused_within_two_seconds_and_the_next_one_signs,
);

/// How late a signer may be, in seconds; `GRACE=300` for a soak.
fn grace() -> u64 {
    std::env::var("GRACE").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn rotations() -> usize {
    std::env::var("ROTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

/// Signs with keys that it read up to `grace` ago, and asks every replica.
struct Load {
    replicas: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<anyhow::Result<Vec<String>>>,
}

impl Load {
    fn start(fleet: &Fleet, tenant: &str, replicas: Vec<String>) -> Self {
        let (secrets, tenant) = (fleet.secrets.clone(), tenant.to_owned());
        let load_replicas = Arc::new(Mutex::new(replicas));
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (at, ended, count) = (Arc::clone(&load_replicas), Arc::clone(&stop), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut read: VecDeque<(Instant, Signer)> = VecDeque::new();
            let mut refused = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                if let Ok(secret) = secrets.get(&format!("{tenant}-signing-keys")).await {
                    read.push_back((Instant::now(), Signer::read(&secret)?));
                }
                // A little less than the grace: the token has to arrive as well.
                let late = Duration::from_secs(grace()).saturating_sub(Duration::from_millis(500));
                while read.len() > 1 && read.front().is_some_and(|(at, _)| at.elapsed() > late) {
                    read.pop_front();
                }
                let replicas = at.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let signers: Vec<Signer> =
                    [read.front(), read.back()].into_iter().flatten().map(|(_, s)| s.clone()).collect();
                for signer in &signers {
                    let token = signer.token(&tenant)?;
                    for replica in &replicas {
                        let url = format!("{replica}/api/v1/tenants/{tenant}/settings");
                        // One that is being killed answers nothing; that is not a refusal.
                        let Ok(answer) = client.get(url).bearer_auth(&token).send().await else { continue };
                        count.fetch_add(1, Ordering::Relaxed);
                        if answer.status() == 401 {
                            refused.push(format!("{} at {replica}", signer.kid));
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(refused)
        });
        Self { replicas: load_replicas, stop, asked, task }
    }

    async fn end(self) -> anyhow::Result<(u64, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let refused = self.task.await??;
        Ok((self.asked.load(Ordering::Relaxed), refused))
    }
}

async fn current_kid(fleet: &Fleet, tenant: &str) -> anyhow::Result<String> {
    let status = fleet.tenants.get(tenant).await?.status.context("a status")?;
    status.keys.and_then(|keys| keys.current_kid).context("a key that signs")
}

async fn annotate(fleet: &Fleet, tenant: &str, annotation: &str, value: &str) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": { annotation: value } } });
    fleet.tenants.patch(tenant, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The longest life of a token of `acme`, in seconds. Short tokens make short-lived previous keys: the ring has room again soon.
const TOKEN: u64 = 60;

/// Asks for a rotation and waits until another key signs; a full ring has room when its oldest key has ended.
pub async fn rotate(fleet: &Fleet, tenant: &str, n: usize) -> anyhow::Result<String> {
    let before = current_kid(fleet, tenant).await?;
    annotate(fleet, tenant, names::ROTATE_ANNOTATION, &format!("rotation-{n}")).await?;
    eventually(LONG + Duration::from_secs(grace() + TOKEN), &format!("rotation {n}"), || async {
        let now = current_kid(fleet, tenant).await?;
        anyhow::ensure!(now != before, "{now} still signs");
        Ok(now)
    })
    .await
}

async fn set_algorithm(fleet: &Fleet, tenant: &str, algorithm: &str) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "auth": { "algorithm": algorithm, "maxTokenSeconds": TOKEN } } });
    fleet.tenants.patch(tenant, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rotations_under_load_refuse_no_valid_token() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::NEWEST).await?;
    fleet.set(Component::Operator, "AGENT_TENANCY__SIGNER_GRACE_SECONDS", grace().to_string());
    let mut operator = fleet.operator("one").await?;
    let (first, first_url) = fleet.replica().await?;
    let (mut second, second_url) = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    set_algorithm(&fleet, "acme", "HS256").await?;
    fleet.wait_ready("acme").await?;
    let load = Load::start(&fleet, "acme", vec![first_url.clone(), second_url]);
    for n in 0..rotations() {
        match n % 5 {
            1 => {
                operator.process.kill_9().await?;
                operator = fleet.operator("one").await?;
            }
            3 => {
                second.kill_9().await?;
                let (again, url) = fleet.replica().await?;
                second = again;
                *load.replicas.lock().unwrap_or_else(PoisonError::into_inner) = vec![first_url.clone(), url];
            }
            _ => {}
        }
        if n == 7 {
            set_algorithm(&fleet, "acme", "EdDSA").await?;
        } else if n == 13 {
            set_algorithm(&fleet, "acme", "ES256").await?;
        }
        rotate(&fleet, "acme", n).await?;
    }
    let (asked, refused) = load.end().await?;
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

/// A key that has signed for as long as it may is replaced without anybody asking; the old one verifies on.
async fn a_key_that_has_signed_for_its_period_is_replaced(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let operator = fleet.operator("one").await?;
    let (_replica, url) = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    // Nobody here can wait an hour: the key is made two hours older, where it is kept and where that is noted.
    operator.process.kill_9().await?;
    let mut secret = fleet.secrets.get("acme-signing-keys").await?;
    let data = secret.data.as_mut().context("the Secret has data")?;
    let mut ring: Value = serde_json::from_slice(&data.get(names::KEYRING).context("a ring")?.0)?;
    let made: jiff::Timestamp = serde_json::from_value(ring["keys"][0]["since"].clone())?;
    ring["keys"][0]["since"] = serde_json::to_value(made - jiff::SignedDuration::from_hours(2))?;
    data.insert(names::KEYRING.to_owned(), ByteString(serde_json::to_vec(&ring)?));
    let mark = Keyring::parse_secret(|key| data.get(key).map(|bytes| bytes.0.as_slice()))?.mark();
    let old = Signer::read(&secret)?;
    fleet.secrets.replace("acme-signing-keys", &PostParams::default(), &secret).await?;
    let note = format!("UPDATE agent_tenancy.tenants SET ring_digest = '{}' WHERE tenant_id = 'acme'", mark.digest);
    fleet.execute(&note).await?;
    let _operator = fleet.operator("one").await?;
    fleet.wait_ready("acme").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(current_kid(&fleet, "acme").await?, old.kid, "without a period it signs for ever");

    let patch = json!({ "spec": { "auth": { "rotationPeriodSeconds": 3600 } } });
    fleet.tenants.patch("acme", &PatchParams::default(), &Patch::Merge(patch)).await?;
    eventually(LONG, "another key signs", || async {
        anyhow::ensure!(current_kid(&fleet, "acme").await? != old.kid, "the old one still signs");
        Ok(())
    })
    .await?;
    let next = Signer::of(&fleet, "acme").await?;
    for signer in [&old, &next] {
        let settings = format!("{url}/api/v1/tenants/acme/settings");
        let answer = reqwest::Client::new().get(settings).bearer_auth(signer.token("acme")?).send().await?;
        assert_eq!(answer.status().as_u16(), 200, "{}", signer.kid);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(current_kid(&fleet, "acme").await?, next.kid, "the next one has just begun");
    Ok(())
}

async fn a_revoked_key_is_refused_within_two_seconds_and_the_next_one_signs(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _operator = fleet.operator("one").await?;
    let replicas = [fleet.replica().await?, fleet.replica().await?];
    fleet.agent("support", "You help.").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;
    let stolen = Signer::read(&fleet.secrets.get("acme-signing-keys").await?)?;
    let client = reqwest::Client::new();
    let ask = async |url: &str, signer: &Signer| -> anyhow::Result<u16> {
        let url = format!("{url}/api/v1/tenants/acme/settings");
        Ok(client.get(url).bearer_auth(signer.token("acme")?).send().await?.status().as_u16())
    };
    for (_, url) in &replicas {
        assert_eq!(ask(url, &stolen).await?, 200);
    }
    let revoked = Instant::now();
    annotate(&fleet, "acme", names::REVOKE_ANNOTATION, &stolen.kid).await?;
    for (_, url) in &replicas {
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
        let next = Signer::read(&fleet.secrets.get("acme-signing-keys").await?)?;
        anyhow::ensure!(next.kid != stolen.kid, "the stolen one still stands");
        Ok(next)
    })
    .await?;
    for (_, url) in &replicas {
        assert_eq!(ask(url, &next).await?, 200);
        assert_eq!(ask(url, &stolen).await?, 401);
    }
    eventually(LONG, "the status tells it", || async {
        let keys = fleet.tenants.get("acme").await?.status.and_then(|s| s.keys).context("keys")?;
        let states: Vec<_> = keys.ring.iter().map(|k| k.state).collect();
        anyhow::ensure!(states == [KeyStatusState::Current], "{states:?}");
        Ok(())
    })
    .await?;
    Ok(())
}
