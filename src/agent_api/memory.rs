//! How many bytes requests may hold at once: what the memory limit leaves.

use std::{fs, path::Path};

/// Of a process without a limit.
const DEFAULT_LIMIT: u64 = 512 << 20;
/// What the process needs besides requests and connections, and what the allocator doesn't return.
const BASE: u64 = 48 << 20;
/// What a connection of a client, or to Postgres, costs at most, buffers included.
const CONNECTION: u64 = 64 << 10;
/// The least with which requests can be served.
const LEAST: u64 = 8 << 20;

/// The bytes that requests may hold, with this memory limit and so many connections.
///
/// # Errors
/// When nearly nothing is left.
pub(super) fn resolve_budget(limit: u64, connections: usize) -> Result<usize, String> {
    let connections = CONNECTION.saturating_mul(connections as u64);
    let budget = limit.saturating_sub(BASE).saturating_sub(connections);
    if budget < LEAST {
        let needed = (BASE + connections + LEAST).div_ceil(1 << 20);
        return Err(format!(
            "the memory limit of {} MiB leaves too little for requests: it must be at least {needed} MiB with this \
             http.maxConnections and database.connectionBudget",
            limit >> 20
        ));
    }
    Ok(usize::try_from(budget).unwrap_or(usize::MAX))
}

/// The memory limit: the setting in MiB, else that of the process's control group, else a default.
pub(super) fn observe_limit(setting_mebibytes: u64) -> u64 {
    match setting_mebibytes {
        0 => observe_control_group().unwrap_or(DEFAULT_LIMIT),
        mebibytes => mebibytes << 20,
    }
}

/// The limit of the process's control group, version 2 or 1, as a container sees it.
fn observe_control_group() -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let read = |path: &Path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let own = fs::read_to_string("/proc/self/cgroup").ok();
    let own = own.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let version_2 = own.and_then(|path| read(&root.join(path).join("memory.max")));
    version_2
        .or_else(|| read(&root.join("memory.max")))
        .or_else(|| read(&root.join("memory/memory.limit_in_bytes")))
        // "No limit" of version 1 is a number near the largest.
        .filter(|bytes| *bytes < 1 << 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_what_the_limit_leaves() {
        assert_eq!(resolve_budget(512 << 20, 1024), Ok(400 << 20));
        assert_eq!(resolve_budget(128 << 20, 256), Ok(64 << 20));
        let refused = resolve_budget(64 << 20, 1024).unwrap_err();
        assert!(refused.contains("64 MiB") && refused.contains("at least 120 MiB"), "{refused}");
    }
}
