//! Reading what a program counts: its page `/metrics` in the format of Prometheus.

use std::collections::BTreeMap;

/// Counters and gauges of a program: name with labels, and value. `url` is the program's, without a path.
pub async fn metrics(url: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let client = crate::process::http_client()?;
    let text = client.get(format!("{url}/metrics")).send().await?.error_for_status()?.text().await?;
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}
