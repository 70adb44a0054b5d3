//! Operators that are killed, and operators that take over from others.

use super::{installation::Installation, randomness::Randomness};
use devkit::{PgVersion, RunningOperator};
use std::time::Duration;

on_each_postgres!(
    an_operator_killed_at_random_moments_loses_nothing_and_creates_nothing_twice,
    of_two_operators_one_acts_and_the_other_takes_over,
);

/// Kills the operator at a random moment and starts it again; every third time it is killed once more while it starts.
/// Returns how often it was killed.
pub async fn kill_at_random(
    installation: &Installation,
    operator: &mut RunningOperator,
    random: &mut Randomness,
    round: usize,
) -> anyhow::Result<u32> {
    let mut up_to = |limit: u64| Duration::from_millis(random.below(limit));
    // About as long as provisioning a tenant takes.
    tokio::time::sleep(up_to(400)).await;
    operator.process.kill_9().await?;
    if round % 3 == 2 {
        let starting = installation.spawn_operator("one")?;
        tokio::time::sleep(up_to(300)).await;
        starting.process.kill_9().await?;
    }
    *operator = installation.operator("one").await?;
    Ok(if round % 3 == 2 { 2 } else { 1 })
}

async fn an_operator_killed_at_random_moments_loses_nothing_and_creates_nothing_twice(
    version: PgVersion,
) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let mut random = Randomness::new("KILL_SEED")?;
    let names: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
    let mut operator = installation.operator("one").await?;
    let mut kills = 0;
    // Half of them at once, then one for each kill, so that the operator is busy at every kill.
    for name in &names[..10] {
        installation.tenant(name, if name.ends_with('5') { "Retain" } else { "Delete" }).await?;
    }
    for (round, name) in names[10..].iter().enumerate() {
        // Every other round on the oldest Postgres, the rest on the newest.
        if (round % 2 == 0) == (version == PgVersion::OLDEST) {
            kills += kill_at_random(&installation, &mut operator, &mut random, round).await?;
        }
        installation.tenant(name, if name.ends_with('5') { "Retain" } else { "Delete" }).await?;
    }
    for name in &names {
        installation.wait_ready(name).await?;
    }
    assert_eq!(installation.ledger("active").await?, names);
    assert_eq!(installation.schemas().await?, names.iter().map(|n| installation.schema(n)).collect::<Vec<_>>());
    assert_eq!(installation.entries("tenant").await?.len(), names.len());
    assert_eq!(installation.key_secrets().await?.len(), names.len());

    for name in &names[..10] {
        installation.delete(name).await?;
    }
    for (round, name) in names[10..].iter().enumerate() {
        // Every other round on the oldest Postgres, the rest on the newest.
        if (round % 2 == 0) == (version == PgVersion::OLDEST) {
            kills += kill_at_random(&installation, &mut operator, &mut random, round).await?;
        }
        installation.delete(name).await?;
    }
    installation.wait_no_tenants().await?;
    println!("killed {kills} times");
    let kept = vec!["t05".to_owned(), "t15".to_owned()];
    assert_eq!(installation.ledger("retained").await?, kept);
    assert_eq!(installation.ledger("dropped").await?.len(), names.len() - kept.len());
    assert_eq!(installation.schemas().await?, kept.iter().map(|n| installation.schema(n)).collect::<Vec<_>>());
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(installation.key_secrets().await?, Vec::<String>::new());
    Ok(())
}

async fn of_two_operators_one_acts_and_the_other_takes_over(version: PgVersion) -> anyhow::Result<()> {
    let installation = Installation::new(version).await?;
    let _replica = installation.replica().await?;
    installation.agent("support", "You help.").await?;
    let first = installation.operator("one").await?;
    installation.tenant("early", "Delete").await?;
    installation.wait_ready("early").await?;
    let second = installation.operator("two").await?;
    assert_eq!(second.metrics().await?.get("tenant_operator_leader"), Some(&0.0));
    first.process.kill_9().await?;
    installation.tenant("late", "Delete").await?;
    installation.wait_ready("late").await?;
    let metrics = second.metrics().await?;
    assert_eq!(metrics.get("tenant_operator_leader"), Some(&1.0));
    assert_eq!(metrics.get("tenant_operator_epoch"), Some(&2.0));
    Ok(())
}
