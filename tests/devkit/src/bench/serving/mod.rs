//! The serving part: chat with the built-in provider, two replicas, a control plane in which something changes meanwhile.
//!
//! | file | what is there |
//! | --- | --- |
//! | `world` | Tenants, the AgentConfig and registry entries, changed as people change them |
//! | `user` | a tenant's users: a token, conversations, one call |
//! | `traffic` | calls of all users: as fast as they are answered, or on schedule |
//! | `changes` | timed edits, and a mix of changes of the registry |
//! | `usage` | memory and CPU time of a process |

mod changes;
mod traffic;
mod usage;
mod user;
mod world;

use std::{sync::Arc, time::Duration};

use super::{Measure, Programs, Replica, Site};
use traffic::{Tally, Traffic};
use usage::Usage;
use world::World;

/// Where the Tenants are.
const NAMESPACE: &str = "bench";
/// Tenants that are there all the time.
const TENANTS: usize = 8;
/// How many call at once when the highest rate is searched for.
const CALLERS: [usize; 4] = [4, 8, 16, 32];
const WARM_UP: Duration = Duration::from_secs(3);
/// How long each number of callers is tried.
const TRIAL: Duration = Duration::from_secs(8);
/// How long calls come on schedule while nothing changes.
const CALM: Duration = Duration::from_secs(20);
/// The share of the highest rate at which calls come on schedule: the machine is busy, and nobody queues for long.
const SHARE: f64 = 0.5;
const EDITS: u64 = 200;
const CHANGES: usize = 50;

/// Measures everything; the installation ends with it.
pub(super) async fn measure(programs: &Programs) -> anyhow::Result<Vec<Measure>> {
    let site = Site::start(&[]).await?;
    let measured = on(&site, programs).await;
    if measured.is_err() {
        site.env().keep_logs();
        eprintln!("devkit: logs are kept in {}", site.env().logs().display());
    }
    site.stop().await?;
    measured
}

async fn on(site: &Site, programs: &Programs) -> anyhow::Result<Vec<Measure>> {
    let _operator = site.operator(programs).await?;
    let replicas = [site.replica(programs).await?, site.replica(programs).await?];
    site.env().kubectl(&["create", "namespace", NAMESPACE]).await?.ok()?;
    let world = World::new(site.client().await?, NAMESPACE, Site::REGISTRY).await?;
    let traffic = Traffic::new([replicas[0].url.clone(), replicas[1].url.clone()])?;
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("shop-{number}")).collect();
    for tenant in &tenants {
        world.create_tenant(tenant).await?;
    }
    for tenant in &tenants {
        traffic.join(world.ready_users(tenant).await?);
    }
    let mut measures = Vec::new();
    let rate = saturate(&traffic, &mut measures).await? * SHARE;
    calm(&traffic, rate, &replicas, &mut measures).await?;
    edits(&world, &traffic, rate, &mut measures).await?;
    mix(&world, &traffic, rate, &tenants, &mut measures).await?;
    memory(&replicas, &mut measures)?;
    Ok(measures)
}

/// The highest rate that any number of callers gets, in calls per second.
async fn saturate(traffic: &Arc<Traffic>, measures: &mut Vec<Measure>) -> anyhow::Result<f64> {
    traffic.saturate(CALLERS[1], WARM_UP).await;
    let (mut best, mut best_callers, mut tried) = (Tally::default(), 0, Vec::new());
    let rate = |tally: &Tally| tally.answered() as f64 / TRIAL.as_secs_f64();
    for callers in CALLERS {
        eprintln!("devkit: chat, {callers} callers ...");
        let tally = traffic.saturate(callers, TRIAL).await;
        anyhow::ensure!(tally.failed() == 0, "with {callers} callers: {}", tally.reasons());
        tried.push(format!("{:.0}/s with {callers}", rate(&tally)));
        if tally.answered() > best.answered() {
            (best, best_callers) = (tally, callers);
        }
    }
    let note = format!(
        "closed loop over {TENANTS} tenants and 2 replicas, {} s each: {}; with {best_callers} callers p50 {:.1} ms, p99 {:.1} ms",
        TRIAL.as_secs(),
        tried.join(", "),
        best.percentile(0.5),
        best.percentile(0.99)
    );
    let highest = rate(&best);
    measures.push(Measure::new("chat: highest sustained rate", highest, "1/s").note(note));
    Ok(highest)
}

/// Calls on schedule, and nothing else.
async fn calm(
    traffic: &Arc<Traffic>,
    rate: f64,
    replicas: &[Replica; 2],
    measures: &mut Vec<Measure>,
) -> anyhow::Result<()> {
    eprintln!("devkit: chat, {rate:.0} calls per second on schedule ...");
    let used = || replicas.iter().map(|replica| Usage::of(replica.process.pid())).collect::<anyhow::Result<Vec<_>>>();
    let before = used()?;
    let schedule = traffic.on_schedule(rate);
    tokio::time::sleep(CALM).await;
    let tally = schedule.end().await;
    let after = used()?;
    let note = format!(
        "open loop at {rate:.0}/s ({:.0} % of the highest rate) for {} s, from the time the call was due",
        SHARE * 100.0,
        CALM.as_secs()
    );
    measures.push(Measure::new("chat at half rate: p50", tally.percentile(0.5), "ms").note(note));
    measures.push(Measure::new("chat at half rate: p99", tally.percentile(0.99), "ms"));
    measures.push(failures("chat at half rate: failed calls", &tally));
    let cpu: f64 = before.iter().zip(&after).map(|(before, after)| after.cpu_seconds - before.cpu_seconds).sum();
    let each = cpu * 1000.0 / tally.answered() as f64;
    measures.push(Measure::new("agent API: CPU per chat", each, "ms").note("of both replicas, in the run above"));
    Ok(())
}

/// Edits of the AgentConfig under the same load.
async fn edits(world: &World, traffic: &Arc<Traffic>, rate: f64, measures: &mut Vec<Measure>) -> anyhow::Result<()> {
    eprintln!("devkit: {EDITS} edits of an AgentConfig under that load ...");
    let schedule = traffic.on_schedule(rate);
    let mut served = changes::edit(world, traffic, EDITS).await?;
    let tally = schedule.end().await;
    served.each.sort_by(f64::total_cmp);
    served.both.sort_by(f64::total_cmp);
    let of = super::percentile;
    let note = format!(
        "{EDITS} edits at {rate:.0} chats/s; from the API server's reply to the first chat answer of each replica with the \
         new model, asked directly every 5 ms; the later replica: p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
        of(&served.both, 0.5),
        of(&served.both, 0.99),
        of(&served.both, 1.0)
    );
    measures.push(Measure::new("apply→served of an edit: p50", of(&served.each, 0.5), "ms").at_most(50.0).note(note));
    measures.push(Measure::new("apply→served of an edit: p99", of(&served.each, 0.99), "ms").at_most(250.0));
    let note = format!("p50 {:.1} ms", tally.percentile(0.5));
    measures.push(Measure::new("chat during the edits: p99", tally.percentile(0.99), "ms").note(note));
    measures.push(failures("chat during the edits: failed calls", &tally));
    Ok(())
}

/// The mix of changes under the same load.
async fn mix(
    world: &World,
    traffic: &Arc<Traffic>,
    rate: f64,
    tenants: &[String],
    measures: &mut Vec<Measure>,
) -> anyhow::Result<()> {
    eprintln!("devkit: {CHANGES} changes of the registry under that load ...");
    let schedule = traffic.on_schedule(rate);
    changes::mix(world, traffic, tenants, CHANGES).await?;
    let tally = schedule.end().await;
    let measure = failures(&format!("chat during {CHANGES} changes: failed calls"), &tally);
    let note = format!(
        "AgentConfig edited, Tenant made, changed and deleted, entry spoiled or deleted by hand, in turn; p50 {:.1} ms, p99 \
         {:.1} ms; {}",
        tally.percentile(0.5),
        tally.percentile(0.99),
        measure.note
    );
    measures.push(measure.note(note));
    Ok(())
}

fn failures(name: &str, tally: &Tally) -> Measure {
    let reasons = if tally.failed() == 0 { String::new() } else { format!(": {}", tally.reasons()) };
    let note = format!("of {} calls; whatever is not a 200{reasons}", tally.answered() + tally.failed());
    Measure::new(name, tally.failed() as f64, "calls").at_most(0.0).note(note)
}

fn memory(replicas: &[Replica; 2], measures: &mut Vec<Measure>) -> anyhow::Result<()> {
    let (a, b) = (Usage::of(replicas[0].process.pid())?, Usage::of(replicas[1].process.pid())?);
    let note = format!("resident, the larger of the two; at its highest {:.1} MiB", a.peak_mib.max(b.peak_mib));
    let now = a.resident_mib.max(b.resident_mib);
    measures.push(Measure::new("agent API: memory after the load", now, "MiB").note(note));
    Ok(())
}
