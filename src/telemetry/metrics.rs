//! A registry of metrics, which the health server renders in the OpenMetrics text format.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicU64};

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Histogram buckets in seconds for operations that usually take milliseconds.
pub const SHORT_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A gauge of fractional numbers, such as seconds.
pub type FractionGauge = Gauge<f64, AtomicU64>;

/// The metrics of one process. Clones share everything.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry; every name starts with `prefix` and an underscore.
    pub fn new(prefix: &str) -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix(prefix))))
    }

    fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).register(name, help, metric.clone());
        metric
    }

    /// Registers a counter; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    /// Registers a gauge of whole numbers.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// Registers a gauge of fractions.
    pub fn fraction(&self, name: &str, help: &str) -> FractionGauge {
        self.add(name, help, FractionGauge::default())
    }

    /// Registers gauges of fractions by label.
    pub fn fractions<L>(&self, name: &str, help: &str) -> Family<L, FractionGauge>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    {
        self.add(name, help, Family::default())
    }

    /// Registers a histogram with [`SHORT_SECONDS`].
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.add(name, help, Histogram::new(SHORT_SECONDS))
    }

    /// Registers counters by label.
    pub fn counters<L>(&self, name: &str, help: &str) -> Family<L, Counter>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    {
        self.add(name, help, Family::default())
    }

    /// Registers gauges by label.
    pub fn gauges<L>(&self, name: &str, help: &str) -> Family<L, Gauge>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    {
        self.add(name, help, Family::default())
    }

    /// Registers histograms by label, with [`SHORT_SECONDS`].
    pub fn seconds_by<L>(&self, name: &str, help: &str) -> Family<L, Histogram, fn() -> Histogram>
    where
        L: EncodeLabelSet + Clone + std::hash::Hash + Eq + Send + Sync + std::fmt::Debug + 'static,
    {
        let make: fn() -> Histogram = || Histogram::new(SHORT_SECONDS);
        self.add(name, help, Family::new_with_constructor(make))
    }

    /// All metrics as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a String can't fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_values_are_rendered() {
        let metrics = Metrics::new("sample");
        metrics.counter("things", "Things seen").inc();
        metrics.seconds("wait_seconds", "Waiting").observe(0.002);
        let text = metrics.render();
        assert!(text.contains("sample_things_total 1"), "{text}");
        assert!(text.contains("sample_wait_seconds_bucket{le=\"0.0025\"} 1"), "{text}");
    }
}
