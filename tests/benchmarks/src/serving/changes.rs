//! Changes while the load runs: timed edits, and a mix of all changes of the registry.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{objects::Objects, traffic::Traffic, user::User};

/// How long after an answer a replica is asked again for an edit.
const PAUSE: Duration = Duration::from_millis(2);
/// Until an edit is served.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long each replica took to serve each edit, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Of both replicas.
    pub(super) each: Vec<f64>,
    /// Of the later one.
    pub(super) both: Vec<f64>,
}

/// Edits the AgentConfig so many times, each once both replicas serve the last one and a moment has passed.
pub(super) async fn edit(objects: &Objects, traffic: &Traffic, edits: u64) -> anyhow::Result<Served> {
    let user = traffic.first().context("there are no users")?;
    let [a, b] = traffic.replicas();
    let failed = |reason| anyhow::anyhow!("a replica answered with {reason}");
    let mut served = Served::default();
    for number in 1..=edits {
        let before = user.revision(traffic.client(), a).await.map_err(failed)?;
        let model = format!("echo-{number}");
        let replied = objects.edit_agent(&model).await?;
        let (at_a, at_b) =
            tokio::try_join!(first_answer(traffic, &user, a, before), first_answer(traffic, &user, b, before))
                .with_context(|| format!("edit {number}"))?;
        let millis = [at_a, at_b].map(|at| at.saturating_duration_since(replied).as_secs_f64() * 1000.0);
        served.each.extend(millis);
        served.both.push(millis[0].max(millis[1]));
        for replica in [a, b] {
            let answer = user.chat(traffic.client(), replica).await.map_err(failed)?;
            anyhow::ensure!(answer.model == model, "{replica} chats with {} after edit {number}", answer.model);
        }
        // Sometimes while the operator still reports the last edit, sometimes after that.
        tokio::time::sleep(Duration::from_millis(20 + number * 37 % 280)).await;
    }
    Ok(served)
}

/// Asks one replica until an answer shows a later revision. Asks for the settings, which cost less than a chat, so that the
/// measurement does not slow the replica down.
async fn first_answer(traffic: &Traffic, user: &User, replica: &str, before: i64) -> anyhow::Result<Instant> {
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        let revision = user.revision(traffic.client(), replica).await;
        let revision = revision.map_err(|reason| anyhow::anyhow!("{replica} answered with {reason}"))?;
        if revision > before {
            return Ok(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
    anyhow::bail!("{replica} does not serve the edit within {TIMEOUT:.0?}")
}

/// So many changes, a fifth of each kind: the AgentConfig edited, a Tenant created, a Tenant changed, an entry corrupted or
/// deleted by hand, a Tenant deleted. The users of every Ready Tenant chat all the time, also while its entry is corrupt.
pub(super) async fn mix(
    objects: &Objects,
    traffic: &Traffic,
    regulars: &[String],
    changes: usize,
) -> anyhow::Result<()> {
    for number in 0..changes {
        let regular = &regulars[number % regulars.len()];
        let guest = format!("guest-{}", number / 5);
        let change = async {
            match number % 5 {
                0 => objects.edit_agent(&format!("mix-{number}")).await.map(drop),
                1 => {
                    objects.create_tenant(&guest).await?;
                    traffic.join(objects.ready_users(&guest).await?);
                    Ok(())
                }
                2 => objects.instruct_tenant(regular, &format!("Say hello {number} times.")).await,
                3 if number % 10 == 3 => objects.spoil_entry(regular).await,
                3 => objects.delete_entry(regular).await,
                _ => {
                    traffic.leave(&guest).await?;
                    objects.delete_tenant(&guest).await
                }
            }
        };
        change.await.with_context(|| format!("change {number} of the registry"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
