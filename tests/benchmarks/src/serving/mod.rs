//! The serving part: chat with the built-in provider and two replicas while the control plane changes.
//!
//! | file | what is there |
//! | --- | --- |
//! | `objects` | Tenants, the AgentConfig and registry entries, changed as people change them |
//! | `user` | a tenant's users: a token, conversations, one call |
//! | `traffic` | calls of all users: as fast as they are answered, or on schedule |
//! | `changes` | timed edits, and a mix of changes of the registry |

mod changes;
mod objects;
mod traffic;
mod user;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use devkit::{ProgramFiles, TestInstallation};
use serde_json::json;

use crate::{Measure, installation, percentile, usage};
use objects::Objects;
use traffic::{Tally, Traffic};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// How long each number of callers is tried when the highest rate is searched for.
    pub trial: Duration,
    /// How long calls come on schedule while nothing changes.
    pub calm: Duration,
    /// Timed edits of an AgentConfig.
    pub edits: u64,
    /// Changes of the registry.
    pub changes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { trial: Duration::from_secs(8), calm: Duration::from_secs(20), edits: 200, changes: 50 }
    }
}

/// Tenants that are there all the time.
const TENANTS: usize = 8;
/// How many call at once when the highest rate is searched for.
const CALLERS: [usize; 4] = [4, 8, 16, 32];
/// The share of the highest rate at which calls come on schedule: the machine is busy, but calls do not queue.
const SHARE: f64 = 0.5;

/// Measures; the installation ends with it.
///
/// # Errors
/// When something does not come up, or a change is not served.
pub async fn measure(programs: &ProgramFiles, sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let installation = installation::start(programs, json!({})).await?;
    let measured = measure_in(&installation, sizes).await;
    if measured.is_err() {
        installation.env.keep_logs();
        eprintln!("benchmarks: logs are kept in {}", installation.env.logs().display());
    }
    installation.stop().await?;
    measured
}

/// What every run works with.
struct Run {
    objects: Objects,
    traffic: Arc<Traffic>,
    tenants: Vec<String>,
    /// The process ids of all programs.
    pids: BTreeMap<&'static str, u32>,
    sizes: Sizes,
    /// Calls per second on schedule.
    rate: f64,
    measures: Vec<Measure>,
}

/// The names under which the replicas are counted.
const REPLICAS: [&str; 2] = ["agent-api 1", "agent-api 2"];

async fn measure_in(installation: &TestInstallation, sizes: Sizes) -> anyhow::Result<Vec<Measure>> {
    let operator = installation.operator("operator").await?;
    let replicas = [installation.replica().await?, installation.replica().await?];
    let mut pids = installation.env.server_pids().await?;
    pids.insert("operator", operator.process.pid());
    pids.extend(REPLICAS.into_iter().zip(replicas.iter().map(|replica| replica.process.pid())));
    let objects = Objects::new(installation).await?;
    let traffic = Traffic::new([replicas[0].url.clone(), replicas[1].url.clone()])?;
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("shop-{number}")).collect();
    for tenant in &tenants {
        objects.create_tenant(tenant).await?;
    }
    for tenant in &tenants {
        traffic.join(objects.ready_users(tenant).await?);
    }
    let mut run = Run { objects, traffic, tenants, pids, sizes, rate: 0.0, measures: Vec::new() };
    run.saturate().await?;
    run.calm().await?;
    run.edit().await?;
    run.mix().await?;
    run.memory()?;
    Ok(run.measures)
}

impl Run {
    /// The highest rate that any number of callers gets.
    async fn saturate(&mut self) -> anyhow::Result<()> {
        let trial = self.sizes.trial;
        self.traffic.saturate(CALLERS[1], trial / 2).await;
        let (mut best, mut best_callers, mut tried) = (Tally::default(), 0, Vec::new());
        let rate = |tally: &Tally| tally.answered() as f64 / trial.as_secs_f64();
        for callers in CALLERS {
            eprintln!("benchmarks: chat, {callers} callers ...");
            let tally = self.traffic.saturate(callers, trial).await;
            anyhow::ensure!(tally.failed() == 0, "with {callers} callers: {}", tally.reasons());
            tried.push(format!("{:.0}/s with {callers}", rate(&tally)));
            if tally.answered() > best.answered() {
                (best, best_callers) = (tally, callers);
            }
        }
        let note = format!(
            "closed loop over {TENANTS} tenants and 2 replicas, {} s each: {}; with {best_callers} callers p50 {:.1} ms, p99 \
             {:.1} ms",
            trial.as_secs(),
            tried.join(", "),
            best.percentile(0.5),
            best.percentile(0.99)
        );
        self.rate = rate(&best) * SHARE;
        self.measures.push(Measure::new("serving.chat.highest_rate", rate(&best), "1/s").note(note));
        Ok(())
    }

    fn cpu(&self) -> anyhow::Result<BTreeMap<&'static str, f64>> {
        self.pids.iter().map(|(name, pid)| Ok((*name, usage::cpu_seconds(*pid)?))).collect()
    }

    /// Processor milliseconds since `before`, for each of `count`, by program; also the sum of the replicas.
    fn cpu_since(&self, before: &BTreeMap<&'static str, f64>, count: usize) -> anyhow::Result<(String, f64)> {
        let used = |(name, now): (&&'static str, &f64)| (*name, (now - before[name]) * 1000.0 / count as f64);
        let used: BTreeMap<&str, f64> = self.cpu()?.iter().map(used).collect();
        let text: Vec<_> = used.iter().map(|(name, millis)| format!("{name} {millis:.2}")).collect();
        Ok((text.join(", "), REPLICAS.iter().map(|name| used[name]).sum()))
    }

    /// Calls on schedule, and nothing else.
    async fn calm(&mut self) -> anyhow::Result<()> {
        let (rate, calm) = (self.rate, self.sizes.calm);
        eprintln!("benchmarks: chat, {rate:.0} calls per second on schedule ...");
        let before = self.cpu()?;
        let schedule = self.traffic.on_schedule(rate);
        tokio::time::sleep(calm).await;
        let tally = schedule.end().await;
        let (programs, replicas) = self.cpu_since(&before, tally.answered())?;
        let note = format!(
            "open loop at {rate:.0}/s ({:.0} % of the highest rate) for {} s; each call counts from the time it was due",
            SHARE * 100.0,
            calm.as_secs()
        );
        self.measures.extend([
            Measure::new("serving.chat.p50", tally.percentile(0.5), "ms").note(note),
            Measure::new("serving.chat.p99", tally.percentile(0.99), "ms"),
            failures("serving.chat.failed", &tally, ""),
            Measure::new("serving.chat.cpu", replicas, "ms")
                .note(format!("processor time of the replicas for one chat; of all programs: {programs}")),
        ]);
        Ok(())
    }

    /// Edits of the AgentConfig under the same load.
    async fn edit(&mut self) -> anyhow::Result<()> {
        let (rate, edits) = (self.rate, self.sizes.edits);
        eprintln!("benchmarks: {edits} edits of an AgentConfig under that load ...");
        let schedule = self.traffic.on_schedule(rate);
        let mut served = changes::edit(&self.objects, &self.traffic, edits).await?;
        let tally = schedule.end().await;
        served.each.sort_by(f64::total_cmp);
        served.both.sort_by(f64::total_cmp);
        let note = format!(
            "{edits} edits at {rate:.0} chats/s; from the API server's reply to the first answer of each replica (its \
             settings, asked directly and again 2 ms after each answer) with the new revision; the later replica: p50 \
             {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            percentile(&served.both, 0.5),
            percentile(&served.both, 0.99),
            percentile(&served.both, 1.0)
        );
        let load =
            format!("meanwhile chat: p50 {:.1} ms, p99 {:.1} ms; ", tally.percentile(0.5), tally.percentile(0.99));
        self.measures.extend([
            Measure::new("serving.edit.p50", percentile(&served.each, 0.5), "ms").at_most(50.0).note(note),
            Measure::new("serving.edit.p99", percentile(&served.each, 0.99), "ms").at_most(250.0),
            failures("serving.edit.failed", &tally, &load),
        ]);
        Ok(())
    }

    /// The mix of changes under the same load.
    async fn mix(&mut self) -> anyhow::Result<()> {
        let changes = self.sizes.changes;
        eprintln!("benchmarks: {changes} changes of the registry under that load ...");
        let schedule = self.traffic.on_schedule(self.rate);
        changes::mix(&self.objects, &self.traffic, &self.tenants, changes).await?;
        let tally = schedule.end().await;
        let note = format!(
            "{changes} changes: the AgentConfig edited, a Tenant made, changed and deleted, an entry spoiled or deleted by \
             hand, in turn; meanwhile chat: p50 {:.1} ms, p99 {:.1} ms; ",
            tally.percentile(0.5),
            tally.percentile(0.99)
        );
        self.measures.push(failures("serving.changes.failed", &tally, &note));
        Ok(())
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        let of = |read: fn(u32) -> anyhow::Result<f64>| {
            REPLICAS
                .iter()
                .map(|name| read(self.pids[name]))
                .try_fold(0.0, |most, next| next.map(|mib| f64::max(most, mib)))
        };
        let note =
            format!("after all that, resident, the larger of the two; at most {:.1} MiB before", of(usage::peak_mib)?);
        self.measures.push(Measure::new("serving.memory", of(usage::resident_mib)?, "MiB").note(note));
        Ok(())
    }
}

/// The calls that were not answered with 200.
fn failures(name: &str, tally: &Tally, note: &str) -> Measure {
    let reasons = if tally.failed() == 0 { String::new() } else { format!(": {}", tally.reasons()) };
    let note = format!("{note}{} calls were not answered with 200 of {}{reasons}", tally.failed(), tally.all());
    Measure::new(name, tally.failed() as f64, "calls").at_most(0.0).note(note)
}
