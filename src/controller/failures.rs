//! Failures of a background task: each is counted, and the first one of a series is a warning. The others would repeat it each
//! period.

use super::metrics::OperatorMetrics;
use crate::effects::error::EffectError;

/// A background task with a series of failures.
pub(crate) struct TaskFailures {
    metrics: OperatorMetrics,
    /// What the task does, for metrics and the log; from a closed list.
    task: &'static str,
    /// The database instance, if the task belongs to one.
    instance: String,
    failing: bool,
}

impl TaskFailures {
    /// A task without failures. `instance`: the database instance, or empty.
    pub(crate) fn new(metrics: &OperatorMetrics, task: &'static str, instance: &str) -> Self {
        let failures = Self { metrics: metrics.clone(), task, instance: instance.to_owned(), failing: false };
        failures.metrics.record_task(task, instance, false);
        failures
    }

    /// Records a failure, and logs the first one of a series as a warning. Returns whether it was the first one.
    pub(crate) fn record(&mut self, error: &EffectError) -> bool {
        let (task, instance, class, chain) = (self.task, &self.instance, error.class.as_str(), error.chain());
        let is_first = !std::mem::replace(&mut self.failing, true);
        match is_first {
            true => tracing::warn!(task, instance, class, error = chain, "a background task failed; it is retried"),
            false => tracing::debug!(task, instance, class, error = chain, "a background task failed again"),
        }
        self.metrics.count_task_failure(task, instance);
        self.metrics.record_task(task, instance, true);
        is_first
    }

    /// Records a success, which ends a series of failures.
    pub(crate) fn succeed(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            tracing::info!(task = self.task, instance = self.instance, "a background task succeeded again");
            self.metrics.record_task(self.task, &self.instance, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::class::ErrorClass, telemetry::metrics::Metrics};

    #[test]
    fn every_failure_is_counted_and_the_first_one_of_a_series_is_a_warning() {
        let metrics = Metrics::new("sample");
        let mut failures = TaskFailures::new(&OperatorMetrics::new(&metrics), "drift", "main");
        let labels = "{task=\"drift\",instance=\"main\"}";
        let shows = |line: String| assert!(metrics.render().contains(&line), "{line}: {}", metrics.render());
        shows(format!("sample_background_task_failing{labels} 0"));
        let error = EffectError::new(ErrorClass::Transient, "it does not answer");
        assert_eq!([failures.record(&error), failures.record(&error)], [true, false]);
        shows(format!("sample_background_task_failures_total{labels} 2"));
        shows(format!("sample_background_task_failing{labels} 1"));
        failures.succeed();
        shows(format!("sample_background_task_failing{labels} 0"));
        assert!(failures.record(&error), "a new series");
    }
}
