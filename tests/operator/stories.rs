//! The stories.

use super::{
    chance::Chance,
    fleet::{Fleet, LONG},
};
use anyhow::Context as _;
use devkit::{Environment, Options, PgVersion, Postgres, RunningOperator, eventually};
use serde_json::json;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::Barrier;

on_each_postgres!(
    a_tenant_costs_little_and_a_converged_fleet_is_silent,
    an_operator_killed_at_random_moments_loses_nothing_and_makes_nothing_twice,
    of_two_operators_one_acts_and_the_other_takes_over,
    a_missing_agent_a_foreign_claim_and_a_wrong_spec_are_said_and_mended,
    a_database_that_is_down_or_replaced_costs_nobody_his_data,
);

const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];
const READS: [&str; 2] = ["get", "list"];

async fn a_tenant_costs_little_and_a_converged_fleet_is_silent(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let operator = fleet.operator("one").await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    // The first tenant makes the cell.
    fleet.tenant("first", "Delete").await?;
    fleet.wait_ready("first").await?;
    // It has read and told what there is to read and tell after a start.
    eventually(LONG, "the operator asks for nothing", || async {
        let before = operator.metrics().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let requests = operator.requests_since(&before).await?;
        anyhow::ensure!(requests.is_empty(), "{requests:?}");
        Ok(())
    })
    .await?;

    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    let applied = Instant::now();
    fleet.tenant("second", "Delete").await?;
    fleet.wait_ready("second").await?;
    let took = applied.elapsed();
    settle(&fleet).await?;
    let requests = operator.requests_since(&before).await?;
    let trips = operator.round_trips().await? - trips;
    println!("one tenant: ready after {took:.0?}, {trips} SQL round trips, requests {requests:?}");
    assert!(sum(&requests, &WRITES) <= 6, "{requests:?}");
    assert!(sum(&requests, &READS) <= 2, "{requests:?}");
    assert_eq!(trips, 3);

    // An AgentConfig's change costs the same however many tenants use it, and touches none of them.
    let versions = fleet.version_of_all().await?;
    let before = operator.metrics().await?;
    fleet.agent("support", "You help gladly.").await?;
    eventually(LONG, "revision 2 is served", || async {
        let agent = fleet.agents.get("support").await?;
        let status = agent.status.unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        anyhow::ensure!(status.revision == Some(2) && ready, "{:?}", status.revision);
        Ok(())
    })
    .await?;
    settle(&fleet).await?;
    let requests = operator.requests_since(&before).await?;
    println!("one AgentConfig change: requests {requests:?}");
    assert!(sum(&requests, &WRITES) <= 5, "{requests:?}");
    let changed: Vec<_> = fleet
        .version_of_all()
        .await?
        .into_iter()
        .filter(|(name, v)| versions.get(name) != Some(v))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(changed.len(), 2, "the AgentConfig and its entry: {changed:?}");

    // At rest, and after a restart: not one write.
    let versions = fleet.version_of_all().await?;
    let (before, trips) = (operator.metrics().await?, operator.round_trips().await?);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(operator.requests_since(&before).await?.len(), 0);
    assert_eq!(operator.round_trips().await?, trips);
    operator.process.kill_9().await?;
    let again = fleet.operator("one").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = again.requests_since(&Default::default()).await?;
    assert_eq!(sum(&requests, &WRITES), 0, "{requests:?}");
    assert_eq!(fleet.version_of_all().await?, versions);

    Ok(())
}

/// Sums the requests of these verbs.
pub fn sum(requests: &BTreeMap<String, u64>, verbs: &[&str]) -> u64 {
    let counted = |labels: &str| verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
    requests.iter().filter(|(labels, _)| counted(labels)).map(|(_, n)| n).sum()
}

/// Waits until what was under way has ended.
pub async fn settle(fleet: &Fleet) -> anyhow::Result<()> {
    let mut versions = fleet.version_of_all().await?;
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let now = fleet.version_of_all().await?;
        if now == versions {
            return Ok(());
        }
        versions = now;
    }
}

/// Kills the operator at a random moment after something was begun, and starts it again; every third time, once more while
/// it starts. Returns how often it was killed.
pub async fn kill_at_random(
    fleet: &Fleet,
    operator: &mut RunningOperator,
    chance: &mut Chance,
    round: usize,
) -> anyhow::Result<u32> {
    let mut up_to = |limit: u64| Duration::from_millis(chance.below(limit));
    // About as long as a tenant takes from beginning to end.
    tokio::time::sleep(up_to(400)).await;
    operator.process.kill_9().await?;
    if round % 3 == 2 {
        let starting = fleet.spawn_operator("one")?;
        tokio::time::sleep(up_to(300)).await;
        starting.process.kill_9().await?;
    }
    *operator = fleet.operator("one").await?;
    Ok(if round % 3 == 2 { 2 } else { 1 })
}

async fn an_operator_killed_at_random_moments_loses_nothing_and_makes_nothing_twice(
    version: PgVersion,
) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let mut chance = Chance::new("KILL_SEED")?;
    let names: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
    let mut operator = fleet.operator("one").await?;
    let mut kills = 0;
    // Half of them at once, then one for each kill, so that every kill meets work.
    for name in &names[..10] {
        fleet.tenant(name, if name.ends_with('5') { "Retain" } else { "Delete" }).await?;
    }
    for (round, name) in names[10..].iter().enumerate() {
        // One on the oldest Postgres, the next on the newest.
        if (round % 2 == 0) == (version == PgVersion::OLDEST) {
            kills += kill_at_random(&fleet, &mut operator, &mut chance, round).await?;
        }
        fleet.tenant(name, if name.ends_with('5') { "Retain" } else { "Delete" }).await?;
    }
    for name in &names {
        fleet.wait_ready(name).await?;
    }
    assert_eq!(fleet.ledger("active").await?, names);
    assert_eq!(fleet.schemas().await?, names.iter().map(|n| fleet.schema(n)).collect::<Vec<_>>());
    assert_eq!(fleet.entries("tenant").await?.len(), names.len());
    assert_eq!(fleet.key_secrets().await?.len(), names.len());

    for name in &names[..10] {
        fleet.delete(name).await?;
    }
    for (round, name) in names[10..].iter().enumerate() {
        // One on the oldest Postgres, the next on the newest.
        if (round % 2 == 0) == (version == PgVersion::OLDEST) {
            kills += kill_at_random(&fleet, &mut operator, &mut chance, round).await?;
        }
        fleet.delete(name).await?;
    }
    fleet.wait_no_tenants().await?;
    println!("killed {kills} times");
    let kept = vec!["t05".to_owned(), "t15".to_owned()];
    assert_eq!(fleet.ledger("retained").await?, kept);
    assert_eq!(fleet.ledger("dropped").await?.len(), names.len() - kept.len());
    assert_eq!(fleet.schemas().await?, kept.iter().map(|n| fleet.schema(n)).collect::<Vec<_>>());
    assert_eq!(fleet.entries("tenant").await?, Vec::<String>::new());
    assert_eq!(fleet.key_secrets().await?, Vec::<String>::new());
    Ok(())
}

async fn of_two_operators_one_acts_and_the_other_takes_over(version: PgVersion) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let first = fleet.operator("one").await?;
    fleet.tenant("early", "Delete").await?;
    fleet.wait_ready("early").await?;
    let second = fleet.operator("two").await?;
    assert_eq!(second.metrics().await?.get("tenant_operator_leader"), Some(&0.0));
    first.process.kill_9().await?;
    fleet.tenant("late", "Delete").await?;
    fleet.wait_ready("late").await?;
    let metrics = second.metrics().await?;
    assert_eq!(metrics.get("tenant_operator_leader"), Some(&1.0));
    assert_eq!(metrics.get("tenant_operator_epoch"), Some(&2.0));
    Ok(())
}

async fn a_missing_agent_a_foreign_claim_and_a_wrong_spec_are_said_and_mended(
    version: PgVersion,
) -> anyhow::Result<()> {
    let fleet = Fleet::new(version).await?;
    let _replica = fleet.replica().await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_condition("acme", "Accepted", "False", "AgentConfigMissing").await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new(), "nothing is made before the spec holds");
    fleet.agent("support", "You help.").await?;
    fleet.wait_ready("acme").await?;

    let mut twin = fleet.tenants.get("acme").await?;
    twin.metadata = kube::api::ObjectMeta { name: Some("twin".into()), ..Default::default() };
    twin.spec.tenant_id = Some("acme".into());
    twin.status = None;
    fleet.tenants.create(&Default::default(), &twin).await?;
    fleet.wait_condition("twin", "Accepted", "False", "Conflict").await?;
    fleet.delete("twin").await?;
    fleet.wait_gone("twin").await?;
    assert_eq!(fleet.ledger("active").await?, ["acme"], "deleting the loser drops nothing");
    fleet.wait_ready("acme").await
}

async fn a_database_that_is_down_or_replaced_costs_nobody_his_data(version: PgVersion) -> anyhow::Result<()> {
    let server = Postgres::start(version).await?;
    let fleet = Fleet::on(Environment::shared().await?, &server).await?;
    let _replica = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    server.stop_immediate().await?;
    let _operator = fleet.operator("one").await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_condition("acme", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    server.start_again().await?;
    fleet.wait_ready("acme").await?;

    // An outage changes no word about what was ready.
    server.stop_immediate().await?;
    fleet.tenant("later", "Delete").await?;
    fleet.wait_condition("later", "DatabaseReady", "Unknown", "DatabaseUnavailable").await?;
    assert_eq!(fleet.condition("acme", "Ready").await?.0, "True");
    server.start_again().await?;
    fleet.wait_ready("later").await?;
    assert_eq!(fleet.ledger("active").await?, ["acme", "later"]);

    // An empty database in place of the real one, perfectly prepared: nothing is made in it, for new Tenants neither.
    server.replace_with_empty_cluster().await?;
    fleet.database.create_again(&server).await?;
    fleet.tenant("stray", "Delete").await?;
    fleet.wait_condition("stray", "DatabaseReady", "False", "DatabaseChanged").await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    assert_eq!(
        fleet.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'agent_tenancy'".into()).await?.len(),
        0
    );
    server.put_back_cluster().await?;
    fleet.wait_ready("stray").await?;
    assert_eq!(fleet.ledger("active").await?, ["acme", "later", "stray"]);
    Ok(())
}

/// One control plane for both installations: it is the expensive part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_restarts_and_replicas_that_die_hold_nobody_up_for_good() -> anyhow::Result<()> {
    // Not audited: a restarted server forbids everything for as long as it hasn't read the roles.
    let options = Options { postgres: vec![], ..Options::default() };
    // Ends with this process, like everything else of the environment.
    let env = Environment::start(options).await?;
    let back = Barrier::new(2);
    let story = async |version| {
        // On a busy machine a restart takes longer than the usual Lease; who loses that ends, and a kubelet starts it again.
        let patient = json!({ "agentApi": { "replicaSource": "Leases" }, "leaderElection": { "leaseSeconds": 90 } });
        let fleet = Fleet::with(&env, &Postgres::shared(version).await?, patient).await?;
        through_a_restart_and_a_death(&fleet, &back).await.with_context(|| format!("on Postgres {version}"))
    };
    tokio::try_join!(story(PgVersion::OLDEST), story(PgVersion::NEWEST)).map(drop)
}

async fn through_a_restart_and_a_death(fleet: &Fleet, both: &Barrier) -> anyhow::Result<()> {
    let steady = fleet.replica().await?;
    fleet.agent("support", "You help.").await?;
    let operator = fleet.operator("one").await?;
    both.wait().await;
    let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    for name in &names[..4] {
        fleet.tenant(name, "Delete").await?;
    }
    if both.wait().await.is_leader() {
        fleet.env.apiserver()?.restart().await?;
    }
    both.wait().await;
    for name in &names[..4] {
        fleet.wait_ready(name).await?;
    }
    assert_eq!(operator.process.exit_status(), None, "a restart of the API server is shorter than the Lease");
    assert_eq!(steady.process.exit_status(), None);

    // A replica that is killed while it applies: once its Lease is stale, nobody waits for it.
    let doomed = fleet.replica().await?;
    for name in &names[4..] {
        fleet.tenant(name, "Delete").await?;
    }
    doomed.process.kill_9().await?;
    for name in &names[4..] {
        fleet.wait_ready(name).await?;
    }
    assert_eq!(fleet.ledger("active").await?, names);
    for name in &names {
        fleet.delete(name).await?;
    }
    fleet.wait_no_tenants().await?;
    assert_eq!(fleet.schemas().await?, Vec::<String>::new());
    Ok(())
}
