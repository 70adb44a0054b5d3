//! The operator's metrics.

use super::queue::outcome::ReconcileOutcome;
use crate::{
    plan::instance::{
        logins::{LoginStep, LoginWait},
        rollout::{RolloutFacts, RolloutStage},
    },
    telemetry::metrics::{FractionGauge, Metrics},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::time::Duration;

/// Kind of object and outcome of a reconcile: both from closed lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReconcileLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// Kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ObjectKindLabel {
    kind: &'static str,
}

/// A database instance: one of those in the settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct InstanceLabel {
    instance: String,
}

/// What happened to an expired archive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ArchiveLabel {
    outcome: &'static str,
}

/// Version of the built-in migrations: as many as there are files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabel {
    version: i32,
}

/// Stage of the rollout of migrations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabel {
    stage: &'static str,
}

/// Step of the rotation of a login.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LoginLabel {
    step: &'static str,
}

/// What the rotation of a login waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WaitLabel {
    instance: String,
    what: &'static str,
}

/// A background task, and its database instance; empty if it belongs to none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TaskLabels {
    task: &'static str,
    instance: String,
}

/// A request to the admin API (`plan`, `takeover`), and the status code of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AdminRequestLabels {
    request: &'static str,
    code: u16,
}

/// The operator's metrics.
#[derive(Clone)]
pub(crate) struct OperatorMetrics {
    reconciles: Family<ReconcileLabels, Counter>,
    duration: Family<ObjectKindLabel, Histogram, fn() -> Histogram>,
    steps: Family<ObjectKindLabel, Counter>,
    archives: Family<ArchiveLabel, Counter>,
    logins: Family<LoginLabel, Counter>,
    logins_waiting: Family<WaitLabel, Gauge>,
    /// 1 while this process leads.
    pub leader: Gauge,
    /// The epoch of its leadership.
    pub epoch: Gauge,
    /// Objects that wait for a worker.
    pub waiting: Gauge,
    round_trips: Family<InstanceLabel, Gauge>,
    database_up: Family<InstanceLabel, Gauge>,
    /// Objects in the cache, by kind.
    pub objects: Family<ObjectKindLabel, Gauge>,
    /// Replicas of the agent API that are ready.
    pub replicas: Gauge,
    drifted: Family<InstanceLabel, Gauge>,
    drift_check: Family<InstanceLabel, FractionGauge>,
    schema_versions: Family<VersionLabel, Gauge>,
    migrations_behind: Gauge,
    migrations_blocked: Gauge,
    rollout: Family<StageLabel, Gauge>,
    custom_migrations: Gauge,
    task_failures: Family<TaskLabels, Counter>,
    task_failing: Family<TaskLabels, Gauge>,
    admin_requests: Family<AdminRequestLabels, Counter>,
}

impl OperatorMetrics {
    /// Registers them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            reconciles: metrics.counters("reconciles", "Reconciles of objects, by kind and outcome"),
            duration: metrics.seconds_by("reconcile_seconds", "Duration of a reconcile, by kind"),
            steps: metrics.counters("steps", "Changes made, status and events included"),
            archives: metrics.counters("archives", "Expired archives, by outcome: dropped, or held by a dependency"),
            logins: metrics.counters("login_steps", "Steps of rotations of the cells' logins"),
            logins_waiting: metrics
                .gauges("login_rotations_waiting", "Cells with a rotation of their login that waits, by reason"),
            leader: metrics.gauge("leader", "1 while this process leads"),
            epoch: metrics.gauge("epoch", "Epoch of this leadership"),
            waiting: metrics.gauge("queue_waiting", "Objects that wait for a worker"),
            round_trips: metrics.gauges("sql_round_trips", "Messages sent to the database since the start"),
            database_up: metrics.gauges("database_up", "1 while the database can be used"),
            objects: metrics.gauges("objects", "Objects in the cache, by kind"),
            replicas: metrics.gauge("ready_replicas", "Replicas of the agent API that are ready"),
            drifted: metrics.gauges("drifted_tenants", "Tenants that the last drift check found to have drifted"),
            schema_versions: metrics.gauges("schema_version_tenants", "Tenants by the schema version of their tables"),
            migrations_behind: metrics.gauge("migrations_behind", "Tenants that lack a migration"),
            migrations_blocked: metrics.gauge("migrations_blocked", "Tenants with migrations that are blocked"),
            rollout: metrics.gauges("migrations_stage", "1 for the current stage of the rollout of migrations"),
            custom_migrations: metrics
                .gauge("custom_migrations", "Custom migrations in force; -1 if the ConfigMap can't be used"),
            task_failures: metrics.counters("background_task_failures", "Failures of background tasks, by task"),
            task_failing: metrics
                .gauges("background_task_failing", "1 while the last attempt of a background task has failed"),
            admin_requests: metrics
                .counters("admin_requests", "Requests to the admin API, by request and status code of the answer"),
            drift_check: metrics.fractions("drift_check_seconds", "Duration of the last drift check"),
        }
    }

    /// Counts a reconcile.
    pub(crate) fn count_reconcile(&self, kind: &'static str, outcome: &ReconcileOutcome, took: Duration) {
        let word = match outcome.error_class {
            Some(class) => class.as_str(),
            None if outcome.settled => "settled",
            None => "working",
        };
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome: word }).inc();
        self.duration.get_or_create(&ObjectKindLabel { kind }).observe(took.as_secs_f64());
        self.steps.get_or_create(&ObjectKindLabel { kind }).inc_by(u64::try_from(outcome.steps).unwrap_or_default());
    }

    /// Counts an expired archive: `dropped`, or `held` by a dependency.
    pub(crate) fn count_archive(&self, outcome: &'static str) {
        self.archives.get_or_create(&ArchiveLabel { outcome }).inc();
    }

    /// Records a drift check of a database.
    pub(crate) fn record_drift_check(&self, instance: &str, found: usize, took: Duration) {
        let label = InstanceLabel { instance: instance.to_owned() };
        self.drifted.get_or_create(&label).set(i64::try_from(found).unwrap_or(i64::MAX));
        self.drift_check.get_or_create(&label).set(took.as_secs_f64());
    }

    /// Records whether a database can be used, and how many messages were sent to it.
    pub(crate) fn record_database(&self, instance: &str, up: bool, round_trips: u64) {
        let label = InstanceLabel { instance: instance.to_owned() };
        self.database_up.get_or_create(&label).set(i64::from(up));
        self.round_trips.get_or_create(&label).set(i64::try_from(round_trips).unwrap_or(i64::MAX));
    }

    /// Counts a step of the rotation of a login.
    pub(crate) fn count_login_step(&self, step: &LoginStep) {
        self.logins.get_or_create(&LoginLabel { step: step.as_str() }).inc();
    }

    /// Records how many rotations wait in a database, and what for.
    pub(crate) fn record_waiting_logins<'w>(&self, instance: &str, waits: impl Iterator<Item = &'w LoginWait>) {
        let words: Vec<&str> = waits.map(LoginWait::as_str).collect();
        for what in LoginWait::LABELS {
            let cells = words.iter().filter(|word| **word == what).count();
            let label = WaitLabel { instance: instance.to_owned(), what };
            self.logins_waiting.get_or_create(&label).set(i64::try_from(cells).unwrap_or(i64::MAX));
        }
    }

    /// Records the progress of migrations.
    pub(crate) fn record_rollout(&self, facts: &RolloutFacts, stage: RolloutStage) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.migrations_behind.set(number(facts.behind));
        self.migrations_blocked.set(number(facts.blocked));
        self.schema_versions.clear();
        for (version, count) in &facts.versions {
            self.schema_versions.get_or_create(&VersionLabel { version: *version }).set(number(*count));
        }
        for each in RolloutStage::ALL {
            self.rollout.get_or_create(&StageLabel { stage: each.as_str() }).set(i64::from(each == stage));
        }
    }

    /// Records the number of custom migrations in force; `None`: they can't be used.
    pub(crate) fn record_custom_migrations(&self, files: Option<i32>) {
        self.custom_migrations.set(files.map_or(-1, i64::from));
    }

    /// Counts a failure of a background task.
    pub(crate) fn count_task_failure(&self, task: &'static str, instance: &str) {
        self.task_failures.get_or_create(&TaskLabels { task, instance: instance.to_owned() }).inc();
    }

    /// Records whether the last attempt of a background task has failed.
    pub(crate) fn record_task(&self, task: &'static str, instance: &str, failing: bool) {
        self.task_failing.get_or_create(&TaskLabels { task, instance: instance.to_owned() }).set(i64::from(failing));
    }

    /// Counts a request to the admin API: `plan` or `takeover`.
    pub(crate) fn count_admin_request(&self, request: &'static str, code: u16) {
        self.admin_requests.get_or_create(&AdminRequestLabels { request, code }).inc();
    }

    /// Records the number of objects of a kind.
    pub(crate) fn record_objects(&self, kind: &'static str, objects: usize) {
        self.objects.get_or_create(&ObjectKindLabel { kind }).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }
}
