//! What a process has used, from /proc (proc(5)).

use std::fs;

use anyhow::Context as _;

/// Clock ticks per second in /proc: part of Linux' ABI.
const TICKS: f64 = 100.0;

/// Of one process, so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// Memory that is resident now.
    pub(super) resident_mib: f64,
    /// The most that ever was.
    pub(super) peak_mib: f64,
}

impl Usage {
    /// Reads it.
    pub(super) fn of(pid: u32) -> anyhow::Result<Usage> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("{path} can't be read"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // The program's name, in brackets, may hold anything; utime and stime are the 14th and 15th field.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let times = after_name.split_whitespace().skip(11).take(2);
        let ticks: f64 = times.filter_map(|field| field.parse::<f64>().ok()).sum();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0).with_context(|| format!("/proc/{pid}/status has no {name}"))
        };
        Ok(Usage { cpu_seconds: ticks / TICKS, resident_mib: mib("VmRSS")?, peak_mib: mib("VmHWM")? })
    }
}
