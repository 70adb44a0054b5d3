//! What processes have used so far, as Linux counts it.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;

/// The numbers of `/proc/PID/stat` that are used here.
struct Stat {
    parent: u32,
    /// Seconds in user and kernel mode.
    own: f64,
    /// Those of children that have ended.
    children: f64,
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The second field is the name in brackets and may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let seconds = |a, b| Some((number(a)? + number(b)?) as f64 / rustix::param::clock_ticks_per_second() as f64);
    let read =
        || Some(Stat { parent: u32::try_from(number(4)?).ok()?, own: seconds(14, 15)?, children: seconds(16, 17)? });
    read().with_context(|| format!("/proc/{pid}/stat can't be understood"))
}

/// Processor seconds of a process and of everything it has started, ended or not.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let root = stat(pid)?;
    let mut total = root.own + root.children;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile is counted by its parent the next time.
        if let Ok(found) = stat(other)
            && found.parent == pid
        {
            total += found.own + found.children;
        }
    }
    Ok(total)
}

/// Most memory that the process ever had resident, in MiB.
pub(super) fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    mib(pid, "VmHWM:")
}

/// Memory that the process has resident now, in MiB.
pub(super) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    mib(pid, "VmRSS:")
}

fn mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = line.context("the kernel counts no memory")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// The usage of all programs so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Processor seconds, by program.
    pub(super) cpu: BTreeMap<&'static str, f64>,
    /// Writing requests of the operator to the API server, by verb and resource; without its Lease.
    pub(super) writes: BTreeMap<String, f64>,
    /// Reading requests, without watches.
    pub(super) reads: BTreeMap<String, f64>,
    /// Its round trips to the database.
    pub(super) trips: f64,
}

impl Usage {
    /// What was used since `before`.
    pub(super) fn since(&self, before: &Usage) -> Usage {
        Usage {
            cpu: grown(&self.cpu, &before.cpu),
            writes: grown(&self.writes, &before.writes),
            reads: grown(&self.reads, &before.reads),
            trips: self.trips - before.trips,
        }
    }

    /// Processor seconds of all programs.
    pub(super) fn all_cpu(&self) -> f64 {
        self.cpu.values().sum()
    }

    /// Processor milliseconds for each of `count`, by program.
    pub(super) fn render(&self, count: usize) -> String {
        let each = |(name, seconds): (&&str, &f64)| format!("{name} {:.1}", seconds * 1000.0 / count as f64);
        self.cpu.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

fn grown<K: Ord + Clone>(now: &BTreeMap<K, f64>, before: &BTreeMap<K, f64>) -> BTreeMap<K, f64> {
    let since = |(name, now): (&K, &f64)| (name.clone(), now - before.get(name).unwrap_or(&0.0));
    now.iter().map(since).filter(|(_, grown)| *grown > 0.0).collect()
}

/// The operator's requests so far: writing, reading; each by verb and resource.
pub(super) fn requests(counters: &BTreeMap<String, f64>) -> [BTreeMap<String, f64>; 2] {
    let mut found = [BTreeMap::new(), BTreeMap::new()];
    for (name, value) in counters {
        let Some(labels) = name.strip_prefix("tenant_operator_api_requests_total") else { continue };
        let label = |name: &str| labels.split(&format!("{name}=\"")).nth(1)?.split('"').next();
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        let kind = match verb {
            _ if resource == "leases" => continue,
            "create" | "update" | "patch" | "delete" => 0,
            "get" | "list" => 1,
            _ => continue,
        };
        found[kind].insert(format!("{verb} {resource}"), *value);
    }
    found
}
