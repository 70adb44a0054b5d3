//! The operator's part: many Tenants at once, what each costs, and whether the cost stays the same when there are many.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use devkit::{Component, ProgramFiles, RunningOperator, RunningReplica, TestInstallation};
use kube::Client;
use serde_json::json;

use crate::{
    Measure, floor, installation, load,
    load::Timeline,
    percentile,
    usage::{self, Usage},
};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Tenants of the main run, and of the floor.
    pub tenants: usize,
    /// Tenants of the wave into an empty installation; its cost is compared.
    pub few: usize,
    /// Tenants that are there at the end of the last wave, which is of the same size.
    pub many: usize,
    /// Drift checks over these many; they are 10 s apart.
    pub drift_checks: usize,
    /// All runs at the same time, for tests in which times don't matter.
    pub together: bool,
}

/// After so long without a request, everything has been done.
const QUIET: Duration = Duration::from_millis(1500);

/// Measures.
///
/// # Errors
/// When something does not come up, or Tenants don't become Ready.
pub async fn measure(programs: &ProgramFiles, sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let Sizes { tenants, together, .. } = sizes;
    let (mut measures, floor, growth) = if together {
        tokio::try_join!(main_run(programs, tenants), floor::measure(programs, tenants), growth(programs, sizes))?
    } else {
        let main = main_run(programs, tenants).await?;
        (main, floor::measure(programs, tenants).await?, growth(programs, sizes).await?)
    };
    let rate = measures.iter().find(|measure| measure.name == RATE).map_or(f64::NAN, |measure| measure.value);
    measures.extend([
        Measure::new("operator.floor.rate", floor.rate, "1/s").note(floor.note),
        Measure::new("operator.rate_to_floor", rate / floor.rate, "ratio").at_least(0.5),
    ]);
    measures.extend(growth);
    Ok(measures)
}

/// Tenants that are applied one after the other.
const ALONE: usize = 20;
const RATE: &str = "operator.rate";

const LOOK: &str = "tenant_operator_drift_check_seconds{instance=\"main\"}";
/// The setting that says how often an operator drift_checks for drift.
const DRIFT_SECONDS: &str = "AGENT_TENANCY__DATABASE__DRIFT_SECONDS";
const TRIPS: &str = "tenant_operator_sql_round_trips{instance=\"main\"}";

/// The cost of a restart, without the leader's Lease and the epoch.
struct Restart {
    /// From the kill to the last request.
    seconds: f64,
    /// How many there were of each kind.
    writes: BTreeMap<String, f64>,
    reads: f64,
    trips: f64,
}

/// The cost of drift checks where there is no drift.
struct Drift {
    /// Median of the checks.
    seconds: f64,
    writes: BTreeMap<String, f64>,
    reads: f64,
    trips: f64,
}

/// An installation with everything running and AgentConfigs that are Ready.
struct Running {
    // Dropped in this order: a process ends before those that it uses.
    operator: RunningOperator,
    _replicas: [RunningReplica; 2],
    client: Client,
    pids: BTreeMap<&'static str, u32>,
    installation: TestInstallation,
}

impl Running {
    async fn start(programs: &ProgramFiles) -> anyhow::Result<Running> {
        let installation = installation::start(programs, json!({})).await?;
        let client = installation.client().await?;
        let operator = installation.operator("operator").await?;
        let replicas = [installation.replica().await?, installation.replica().await?];
        load::create_agents(&client, &installation.tenants_namespace).await?;
        let mut pids = installation.env.server_pids().await?;
        pids.insert("operator", operator.process.pid());
        pids.insert("agent-api 1", replicas[0].process.pid());
        pids.insert("agent-api 2", replicas[1].process.pid());
        let running = Running { operator, _replicas: replicas, client, pids, installation };
        running.settle().await?;
        Ok(running)
    }

    async fn usage(&self) -> anyhow::Result<Usage> {
        let counters = self.operator.metrics().await?;
        let [writes, reads] = usage::requests(&counters);
        let trips = counters.get(TRIPS).copied().unwrap_or(f64::NAN);
        let cpu = self.pids.iter().map(|(name, pid)| Ok((*name, usage::cpu_seconds(*pid)?)));
        Ok(Usage { cpu: cpu.collect::<anyhow::Result<_>>()?, writes, reads, trips })
    }

    /// Waits until the operator has done everything, events included.
    async fn settle(&self) -> anyhow::Result<()> {
        let (mut last, mut since) = (Default::default(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = usage::requests(&self.operator.metrics().await?);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Creates these Tenants and waits until the last is Ready.
    async fn apply(&self, names: Vec<String>) -> anyhow::Result<Timeline> {
        Timeline::run(&self.client, &self.installation.tenants_namespace, names).await
    }

    /// Creates `count` Tenants and waits until everything is done for them.
    async fn wave(&self, prefix: &str, count: usize) -> anyhow::Result<(Timeline, Usage)> {
        let before = self.usage().await?;
        let names = (0..count).map(|number| format!("{prefix}{number:05}")).collect();
        let timeline = self.apply(names).await?;
        self.settle().await?;
        Ok((timeline, self.usage().await?.since(&before)))
    }

    /// Kills the operator as a crash would, starts it again, and waits until it has reconciled everything.
    async fn restart(&mut self) -> anyhow::Result<Restart> {
        self.operator.process.kill_9().await?;
        let begun = Instant::now();
        self.operator = self.installation.operator("operator").await?;
        self.pids.insert("operator", self.operator.process.pid());
        let (mut last, mut since) = (Default::default(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let counters = self.operator.metrics().await?;
            let now = (usage::requests(&counters), counters.get(TRIPS).copied().unwrap_or_default());
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        let ([writes, reads], trips) = last;
        let seconds = (since - begun).as_secs_f64();
        Ok(Restart { seconds, writes, reads: reads.values().sum(), trips })
    }

    /// Waits for so many drift checks of an operator that checks often and does nothing else.
    async fn check_drift(&mut self, drift_checks: usize) -> anyhow::Result<Drift> {
        self.installation.set(Component::Operator, DRIFT_SECONDS, "10");
        self.restart().await?;
        self.installation.unset(Component::Operator, DRIFT_SECONDS);
        let took = async || anyhow::Ok(self.operator.metrics().await?.get(LOOK).copied().unwrap_or(0.0));
        let (before, mut last, mut all) = (self.usage().await?, took().await?, Vec::new());
        let deadline = Instant::now() + drift_checks as u32 * Duration::from_secs(30);
        while all.len() < drift_checks {
            anyhow::ensure!(Instant::now() < deadline, "the operator doesn't check for drift");
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = took().await?;
            if now != last {
                last = now;
                all.push(now);
            }
        }
        self.settle().await?;
        let used = self.usage().await?.since(&before);
        all.sort_by(f64::total_cmp);
        Ok(Drift {
            seconds: percentile(&all, 0.5),
            writes: used.writes,
            reads: used.reads.values().sum(),
            trips: used.trips,
        })
    }

    fn peak_mib(&self) -> anyhow::Result<f64> {
        usage::peak_mib(self.operator.process.pid())
    }

    async fn stop(self) -> anyhow::Result<()> {
        let Running { operator, _replicas, installation, .. } = self;
        drop((operator, _replicas));
        installation.stop().await
    }
}

/// `count` Tenants into an empty installation.
async fn main_run(programs: &ProgramFiles, count: usize) -> anyhow::Result<Vec<Measure>> {
    eprintln!("benchmarks: {count} Tenants into an empty installation ...");
    let running = Running::start(programs).await?;
    let (timeline, used) = running.wave("t", count).await?;
    let peak = running.peak_mib()?;
    running.stop().await?;
    let each = |total: f64| total / count as f64;
    let requests = |all: &BTreeMap<String, f64>| {
        let each = |(name, number): (&String, &f64)| format!("{name} {:.2}", each(*number));
        all.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    let makespan = timeline.makespan();
    let latencies = timeline.latencies();
    let tenths = timeline.tenths();
    let late = (1..=9).map(|k| tenths[k - 1] / ((k + 1) as f64 / 10.0)).fold(0.0, f64::max);
    let shares: Vec<String> = tenths.iter().map(|share| format!("{share:.2}")).collect();
    let last_sent = timeline.last_sent();
    Ok(vec![
        Measure::new("operator.tenants", count as f64, "")
            .note(format!("created by {} requests at a time; the last was sent after {last_sent:.1} s", load::AT_ONCE)),
        Measure::new("operator.makespan", makespan, "s").note("first create sent → last Ready seen by a watch"),
        Measure::new(RATE, count as f64 / makespan, "1/s"),
        Measure::new("operator.apply_to_ready.p50", percentile(&latencies, 0.5), "s")
            .note("all are applied at once: mostly the time in the queue"),
        Measure::new("operator.apply_to_ready.p99", percentile(&latencies, 0.99), "s"),
        Measure::new("operator.first_tenth_ready", timeline.first_tenth(), "s"),
        Measure::new("operator.fairness", late, "ratio").at_most(1.0).note(format!(
            "worst of: last Ready of the k-th tenth by creation ÷ (k+1)/10 of the makespan; the tenths were Ready at {}",
            shares.join(" ")
        )),
        Measure::new("operator.cpu", used.cpu.get("operator").copied().unwrap_or(f64::NAN), "s")
            .note(format!("CPU ms per tenant: {}", used.render(count))),
        Measure::new("operator.peak_memory", peak, "MiB").at_most(60.0).note("VmHWM"),
        Measure::new("operator.api_writes", each(used.writes.values().sum()), "per tenant")
            .at_most(6.1)
            .note(requests(&used.writes)),
        Measure::new("operator.api_reads", each(used.reads.values().sum()), "per tenant")
            .at_most(2.1)
            .note(requests(&used.reads)),
        Measure::new("operator.sql_round_trips", each(used.trips), "per tenant").at_most(3.1),
    ])
}

/// Whether a tenant costs more when there are many.
async fn growth(programs: &ProgramFiles, sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let Sizes { few, many, drift_checks, .. } = sizes;
    eprintln!("benchmarks: {few} Tenants, and {few} more where there are {} already ...", many - few);
    let mut running = Running::start(programs).await?;
    // The first creates the cell and other things that are created once, so that they are not compared.
    running.wave("w", 1).await?;
    let mut alone = Vec::new();
    for number in 0..ALONE {
        let name = format!("s{number:05}");
        alone.extend(running.apply(vec![name]).await?.latencies());
    }
    alone.sort_by(f64::total_cmp);
    running.settle().await?;
    let (first, cost_first) = running.wave("a", few).await?;
    running.wave("b", many - 2 * few).await?;
    let (last, cost_last) = running.wave("c", few).await?;
    let peak = running.peak_mib()?;
    // The start also reports what is checked every few minutes only: that so many tables come near a limit of the server.
    let drift = running.check_drift(drift_checks).await?;
    let restart = running.restart().await?;
    running.stop().await?;
    let each = |used: &Usage| used.all_cpu() * 1000.0 / few as f64;
    let made = |wave: &Timeline, used: &Usage| {
        let each = |count: f64| count / few as f64;
        let requests = used.writes.values().sum::<f64>() + used.reads.values().sum::<f64>();
        let (requests, trips) = (each(requests), each(used.trips));
        format!("; {requests:.1} requests and {trips:.1} SQL round trips; makespan {:.1} s", wave.makespan())
    };
    let named = |writes: &BTreeMap<String, f64>| {
        writes.iter().map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join(", ")
    };
    Ok(vec![
        Measure::new("operator.alone.p50", percentile(&alone, 0.5) * 1000.0, "ms")
            .note(format!("apply → Ready, {ALONE} Tenants one after the other")),
        Measure::new("operator.alone.p99", percentile(&alone, 0.99) * 1000.0, "ms"),
        Measure::new("operator.cost_at_few", each(&cost_first), "ms").note(format!(
            "CPU per tenant, {few} where there are few: {}{}",
            cost_first.render(few),
            made(&first, &cost_first)
        )),
        Measure::new("operator.cost_at_many", each(&cost_last), "ms").note(format!(
            "the same for the last {few} of {many}: {}{}",
            cost_last.render(few),
            made(&last, &cost_last)
        )),
        Measure::new("operator.cost_growth", each(&cost_last) / each(&cost_first), "ratio")
            .at_most(1.2)
            .note("cost: CPU of operator, replicas, Postgres, API server and etcd together"),
        Measure::new("operator.peak_memory_at_many", peak, "MiB").note(format!("VmHWM, {many} Tenants")),
        Measure::new("operator.restart", restart.seconds, "s").at_most(15.0).note(format!(
            "SIGKILL → last request of the same operator started again, {many} Tenants; {} reads, {} SQL round trips",
            restart.reads, restart.trips
        )),
        Measure::new("operator.restart.writes", restart.writes.values().sum(), "")
            .at_most(0.0)
            .note(named(&restart.writes)),
        Measure::new("operator.drift_check", drift.seconds, "s").at_most(0.25).note(format!(
            "one query for {many} Tenants, median of {drift_checks}; meanwhile {} reads, {} SQL round trips",
            drift.reads, drift.trips
        )),
        Measure::new("operator.drift_check.writes", drift.writes.values().sum(), "")
            .at_most(0.0)
            .note(named(&drift.writes)),
    ])
}
