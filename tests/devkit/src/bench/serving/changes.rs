//! What changes while the load runs: edits that are timed, and a mix of everything that may happen to the registry.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::{traffic::Traffic, user::User, world::World};

/// How often each replica is asked for an edit.
const ASK: Duration = Duration::from_millis(5);
/// An edit that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long each replica took to serve each edit, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Of both replicas.
    pub(super) each: Vec<f64>,
    /// Of the later one.
    pub(super) both: Vec<f64>,
}

/// Edits the AgentConfig so many times, each once both replicas serve the last one and a moment has passed.
pub(super) async fn edit(world: &World, traffic: &Traffic, edits: u64) -> anyhow::Result<Served> {
    let user = traffic.first().context("nobody is there to ask")?;
    let mut served = Served::default();
    for number in 1..=edits {
        let model = format!("echo-{number}");
        let replied = world.edit_agent(&model).await?;
        let [a, b] = traffic.replicas();
        let (a, b) = tokio::try_join!(first_answer(traffic, &user, a, &model), first_answer(traffic, &user, b, &model))
            .with_context(|| format!("edit {number}"))?;
        let millis = [a, b].map(|at| at.saturating_duration_since(replied).as_secs_f64() * 1000.0);
        served.each.extend(millis);
        served.both.push(millis[0].max(millis[1]));
        // Sometimes while the operator still reports the last edit, sometimes after that.
        tokio::time::sleep(Duration::from_millis(20 + number * 37 % 280)).await;
    }
    Ok(served)
}

/// Asks one replica until an answer shows the model. The questions don't wait for each other.
async fn first_answer(traffic: &Traffic, user: &Arc<User>, replica: &str, model: &str) -> anyhow::Result<Instant> {
    let mut asked = JoinSet::new();
    let mut clock = tokio::time::interval(ASK);
    let begun = Instant::now();
    loop {
        tokio::select! {
            _ = clock.tick() => {
                anyhow::ensure!(begun.elapsed() < PATIENCE, "{replica} does not serve {model} within {PATIENCE:.0?}");
                let (client, user, replica) = (traffic.client().clone(), Arc::clone(user), replica.to_owned());
                asked.spawn(async move { user.chat(&client, &replica).await });
            }
            Some(answer) = asked.join_next() => {
                let answer = answer?.map_err(|reason| anyhow::anyhow!("{replica} answered a question with {reason}"))?;
                if answer.model == model {
                    let at = Instant::now();
                    // Cut off, they would be more load than answered.
                    asked.detach_all();
                    return Ok(at);
                }
            }
        }
    }
}

/// So many changes, a fifth of each kind: the AgentConfig edited, a Tenant made, a Tenant changed, an entry spoiled or
/// deleted by hand, a Tenant deleted. Whoever is Ready calls all the time, also while his own entry is spoiled.
pub(super) async fn mix(world: &World, traffic: &Traffic, regulars: &[String], changes: usize) -> anyhow::Result<()> {
    for number in 0..changes {
        let regular = &regulars[number % regulars.len()];
        let guest = format!("guest-{}", number / 5);
        let change = async {
            match number % 5 {
                0 => world.edit_agent(&format!("mix-{number}")).await.map(drop),
                1 => {
                    world.create_tenant(&guest).await?;
                    traffic.join(world.ready_users(&guest).await?);
                    Ok(())
                }
                2 => world.instruct_tenant(regular, &format!("Say hello {number} times.")).await,
                3 if number % 10 == 3 => world.spoil_entry(regular).await,
                3 => world.delete_entry(regular).await,
                _ => {
                    traffic.leave(&guest).await;
                    world.delete_tenant(&guest).await
                }
            }
        };
        change.await.with_context(|| format!("change {number} of the registry"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
