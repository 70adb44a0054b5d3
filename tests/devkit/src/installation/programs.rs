//! The running programs of an installation.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;

use crate::{Process, metrics::metrics};

/// A running operator.
#[derive(Debug)]
pub struct RunningOperator {
    /// The process.
    pub process: Process,
    /// `http://…` of metrics and health.
    pub url: String,
    /// How it was started, one word or variable a line.
    pub command: Vec<String>,
    pub(super) admin_url: Option<String>,
}

/// A running replica of the agent API.
#[derive(Debug)]
pub struct RunningReplica {
    /// The process.
    pub process: Process,
    /// `http://…` of the API.
    pub url: String,
    /// `http://…` of metrics and health.
    pub health_url: String,
    /// How it was started, one word or variable a line.
    pub command: Vec<String>,
}

impl RunningReplica {
    /// Waits until it says that it is ready.
    pub async fn wait_ready(&self, timeout: Duration) -> anyhow::Result<()> {
        self.process.wait_http(&format!("{}/readyz", self.health_url), timeout).await
    }
}

impl RunningOperator {
    /// Waits until it says that it is ready: it leads, or another one does.
    pub async fn wait_ready(&self, timeout: Duration) -> anyhow::Result<()> {
        self.process.wait_http(&format!("{}/readyz", self.url), timeout).await
    }

    /// `http://…` of its admin API; only where the chart's values enable it.
    pub fn admin_url(&self) -> anyhow::Result<&str> {
        self.admin_url.as_deref().context("the admin API of this installation is not enabled")
    }

    /// Its counters and gauges: name with labels, and value.
    pub async fn metrics(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        metrics(&self.url).await
    }

    /// Its requests to the API server since `before`, by verb and resource. Leases and watches are left out.
    pub async fn requests_since(&self, before: &BTreeMap<String, f64>) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut requests = BTreeMap::new();
        for (name, value) in self.metrics().await? {
            let Some(labels) = name.strip_prefix("tenant_operator_api_requests_total") else { continue };
            let grown = (value - before.get(&name).copied().unwrap_or_default()) as u64;
            if grown > 0 && !labels.contains("leases") && !labels.contains("watch") {
                requests.insert(labels.to_owned(), grown);
            }
        }
        Ok(requests)
    }

    /// Its round trips to all databases so far.
    pub async fn round_trips(&self) -> anyhow::Result<u64> {
        let metrics = self.metrics().await?;
        let trips = metrics.iter().filter(|(name, _)| name.starts_with("tenant_operator_sql_round_trips{"));
        Ok(trips.map(|(_, count)| *count as u64).sum())
    }
}
