//! The agent API's metrics, all in one place. No tenant appears in a label.

use crate::telemetry::metrics::{FractionGauge, Metrics};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::time::Duration;

/// Connections, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// In use or idle.
    pub open: usize,
    /// In use.
    pub busy: usize,
}

/// Use of what all tenants share, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareUse {
    /// What tenants hold.
    pub taken: usize,
    /// What there is.
    pub total: usize,
}

/// A request by route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: &'static str,
}

/// One word as a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabel {
    level: &'static str,
}

/// The metrics.
pub struct ApiMetrics {
    metrics: Metrics,
    requests: Family<RequestLabels, Counter>,
    refused_tokens: Family<ReasonLabel, Counter>,
    /// From reading a chat request to its answer, in seconds.
    pub chat_seconds: Histogram,
    /// The provider's part of it.
    pub upstream_seconds: Histogram,
    /// Applying a batch of registry changes and publishing them.
    pub apply_seconds: Histogram,
    entries: Family<KindLabel, Gauge>,
    quarantined: Gauge,
    version: Gauge,
    staleness: FractionGauge,
    connections: Family<StateLabel, Gauge>,
    bytes: Family<StateLabel, Gauge>,
    storage: Family<LevelLabel, Counter>,
    /// Deletions of registry entries that were not carried out.
    pub ignored_deletions: Counter,
    /// Answers that could not be stored.
    pub lost_answers: Counter,
}

impl ApiMetrics {
    /// Registers everything.
    pub fn new() -> Self {
        let metrics = Metrics::new("agent_api");
        Self {
            requests: metrics.counters("requests", "Requests by method, route and class of status"),
            refused_tokens: metrics.counters("refused_tokens", "Tokens that did not verify"),
            chat_seconds: metrics.seconds("chat_seconds", "Chat calls, provider included"),
            upstream_seconds: metrics.seconds("upstream_seconds", "Calls to providers"),
            apply_seconds: metrics.seconds("registry_apply_seconds", "Applying and publishing registry changes"),
            entries: metrics.gauges("registry_entries", "Registry entries in use, by kind"),
            quarantined: metrics.gauge("registry_quarantined", "Quarantined registry entries"),
            version: metrics.gauge("registry_version", "Version up to which the registry is applied"),
            staleness: metrics.fraction("registry_staleness_seconds", "Time since the last word from the source"),
            connections: metrics.gauges("database_connections", "Connections to Postgres"),
            bytes: metrics.gauges("memory_budget_bytes", "Bytes that requests may hold: held and free"),
            storage: metrics
                .counters("storage_checks", "Requests to add data under a storage limit, by how much of it was used"),
            ignored_deletions: metrics.counter("registry_ignored_deletions", "Deletions that were not carried out"),
            lost_answers: metrics.counter("lost_answers", "Answers that could not be stored"),
            metrics,
        }
    }

    /// The registry of metrics, for the health server.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a request.
    pub fn note_request(&self, method: &http::Method, route: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            _ => "other",
        };
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { method, route: route.to_owned(), status }).inc();
    }

    /// Counts a refused token, by the reason.
    pub fn note_refused_token(&self, reason: &'static str) {
        self.refused_tokens.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a request to add data under a storage limit, by the level of its use; at `full` it was refused.
    pub fn note_storage(&self, level: &'static str) {
        self.storage.get_or_create(&LevelLabel { level }).inc();
    }

    /// Notes the number of entries of each kind.
    pub fn note_entries(&self, counts: [(&'static str, usize); 4]) {
        for (kind, count) in counts {
            self.entries.get_or_create(&KindLabel { kind }).set(gauge(count));
        }
    }

    /// Notes how many entries are quarantined, and up to which version the registry is applied.
    pub fn note_registry(&self, quarantined: usize, version: u64) {
        self.quarantined.set(gauge(quarantined));
        self.version.set(i64::try_from(version).unwrap_or(i64::MAX));
    }

    /// Notes what is read rather than counted.
    pub fn note_now(&self, staleness: Duration, pool: PoolUse, bytes: ShareUse) {
        self.staleness.set(staleness.as_secs_f64());
        self.bytes.get_or_create(&StateLabel { state: "held" }).set(gauge(bytes.taken));
        self.bytes.get_or_create(&StateLabel { state: "free" }).set(gauge(bytes.total.saturating_sub(bytes.taken)));
        self.connections.get_or_create(&StateLabel { state: "busy" }).set(gauge(pool.busy));
        self.connections.get_or_create(&StateLabel { state: "idle" }).set(gauge(pool.open.saturating_sub(pool.busy)));
    }
}

impl Default for ApiMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
