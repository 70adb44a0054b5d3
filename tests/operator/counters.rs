//! What an operator counts of itself: requests to the API server and round trips to the database.

use super::fleet::Operator;
use std::collections::BTreeMap;

impl Operator {
    /// The counters of its metrics: name with labels, and value.
    pub async fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(n, v)| Some((n.to_owned(), v.parse().ok()?)))
            .collect())
    }

    /// Requests to the API server since `before`, by verb and resource; the leader's own Lease is left out.
    pub async fn requests_since(&self, before: &BTreeMap<String, f64>) -> anyhow::Result<BTreeMap<String, u64>> {
        let now = self.metrics().await?;
        let mut requests = BTreeMap::new();
        for (name, value) in now {
            let Some(labels) = name.strip_prefix("tenant_operator_api_requests_total") else { continue };
            let grown = (value - before.get(&name).copied().unwrap_or_default()) as u64;
            if grown > 0 && !labels.contains("leases") && !labels.contains("watch") {
                requests.insert(labels.to_owned(), grown);
            }
        }
        Ok(requests)
    }

    /// Round trips to all databases so far.
    pub async fn round_trips(&self) -> anyhow::Result<u64> {
        let metrics = self.metrics().await?;
        let trips = metrics.iter().filter(|(name, _)| name.starts_with("tenant_operator_sql_round_trips{"));
        Ok(trips.map(|(_, count)| *count as u64).sum())
    }
}

/// Sums the requests of these verbs.
pub fn sum(requests: &BTreeMap<String, u64>, verbs: &[&str]) -> u64 {
    let counted = |labels: &str| verbs.iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
    requests.iter().filter(|(labels, _)| counted(labels)).map(|(_, n)| n).sum()
}
