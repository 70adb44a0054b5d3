//! The rollout of migrations: assigns slots to Tenants and enqueues them. Their reconcile applies the migrations;
//! `plan::instance::rollout` decides which Tenants are next.

use crate::controller::{
    context::OperatorContext,
    failures::TaskFailures,
    queue::work_queue::Priority,
    reconcile::{orphans::exists, worker::tenant_target},
};
use crate::{
    api::names,
    domain::{
        class::ErrorClass,
        custom_migrations::CustomMigrations,
        ident::{ObjectId, Uid},
    },
    effects::{error::EffectError, kubernetes::cache::Key},
    plan::{
        instance::rollout::{RolloutFacts, RolloutRules, RolloutStage, plan_rollout},
        tenant::schema::resolve_target,
    },
    status::FleetView,
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long the facts of one query are used while migrations are in progress.
const FACTS_AGE: Duration = Duration::from_secs(2);
/// Minimum time between two queries.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// How often the used slots are checked.
const SLOT_CHECK: Duration = Duration::from_millis(50);
/// A Tenant that did not use its slot for so long keeps it, but the slot no longer counts.
const SLOT_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of the rollout.
pub(crate) struct RolloutSettings {
    /// The rules of the plan.
    pub rules: RolloutRules,
    /// Tenants that are migrated first, as `namespace/name`.
    pub canaries: Vec<String>,
    /// How often the fleet is read when no tenant lacks a migration.
    pub period: Duration,
}

/// Runs for as long as the process leads.
pub(crate) async fn run(context: Arc<OperatorContext>, settings: RolloutSettings) {
    let mut databases = context.world.instances.follow();
    let mut custom_migrations = context.custom_migrations.subscribe();
    let mut assigned = AssignedSlots { since: HashMap::new() };
    let mut logged = None;
    let mut failures = TaskFailures::new(&context.metrics, "rollout", "");
    loop {
        databases.wait_for_any().await;
        custom_migrations.borrow_and_update();
        let stage = match context.read_fleet(&settings).await {
            Ok(facts) => {
                failures.succeed();
                let stage = context.assign_slots(&settings, &mut assigned, &facts).await;
                if logged.replace(stage) != Some(stage) {
                    log_stage(stage, &facts);
                }
                stage
            }
            Err(error) => {
                failures.record(&error);
                RolloutStage::Holding
            }
        };
        let pause = match stage {
            RolloutStage::Canaries | RolloutStage::Rolling => continue,
            RolloutStage::Holding | RolloutStage::Halted => FACTS_AGE,
            RolloutStage::Done => context.scheduler.spread(settings.period),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A database that is available again may have tenants that lack migrations.
            () = databases.changed() => {}
            changed = custom_migrations.changed() => if changed.is_err() { return },
        }
    }
}

fn log_stage(stage: RolloutStage, facts: &RolloutFacts) {
    let RolloutFacts { tenants, behind, blocked, .. } = facts;
    match stage {
        RolloutStage::Halted => {
            tracing::warn!(tenants, behind, blocked, "the rollout of migrations is halted")
        }
        RolloutStage::Done => tracing::info!(tenants, "every tenant has all migrations"),
        RolloutStage::Canaries | RolloutStage::Holding | RolloutStage::Rolling => {
            tracing::info!(stage = stage.as_str(), tenants, behind, blocked, "migrations are rolled out");
        }
    }
}

/// The Tenants with a slot, and since when.
struct AssignedSlots {
    since: HashMap<Uid, Duration>,
}

impl OperatorContext {
    /// Reads every available database: all their tenants are one fleet.
    async fn read_fleet(&self, settings: &RolloutSettings) -> Result<RolloutFacts, EffectError> {
        let target = resolve_target(&self.installation, &self.world.replica_tracker.observe());
        let custom_migrations = self.custom_migrations.borrow().clone();
        let (canaries, first) = (&settings.canaries, settings.rules.canaries);
        let mut found = Vec::new();
        for breaker in self.world.instances.breakers().iter().filter(|breaker| breaker.is_closed()) {
            match self.world.observe_fleet(breaker, target, custom_migrations.as_ref(), canaries, first).await {
                Ok(facts) => found.push((breaker.name().to_owned(), facts)),
                // It has just become unavailable; the others go on.
                Err(_) if !breaker.is_closed() => {}
                Err(error) => return Err(error),
            }
        }
        let all = found.iter().map(|(_, facts)| facts.clone()).reduce(RolloutFacts::merge);
        let facts = all.ok_or_else(|| EffectError::new(ErrorClass::Transient, "no database is available"))?;
        let stage = plan_rollout(&facts, &settings.rules).stage;
        self.metrics.record_rollout(&facts, stage);
        let own = custom_migrations.as_ref().map_or(0, CustomMigrations::version);
        self.fleet.send_if_modified(|views| {
            let before = views.clone();
            for (name, facts) in found {
                // A database without work does not wait for the others.
                let stage = if facts.behind == 0 { RolloutStage::Done } else { stage };
                let (behind, blocked) = (facts.behind, facts.blocked);
                views.insert(name, FleetView { stage, behind, blocked, target, own });
            }
            *views != before
        });
        Ok(facts)
    }

    /// Assigns slots by the facts of one query until they are too old, or a file failed.
    async fn assign_slots(
        &self,
        settings: &RolloutSettings,
        assigned: &mut AssignedSlots,
        facts: &RolloutFacts,
    ) -> RolloutStage {
        let rollout = plan_rollout(facts, &settings.rules);
        let waiting: Vec<&ObjectId> = rollout.rollout_slots.iter().filter(|object| self.may_migrate(object)).collect();
        // A Tenant that is not waiting any more is done, or the rollout has stopped.
        let over: Vec<Uid> =
            assigned.since.keys().filter(|uid| !waiting.iter().any(|o| o.uid == **uid)).cloned().collect();
        for uid in over {
            assigned.since.remove(&uid);
            self.world.rollout_slots.end(&uid);
        }
        if waiting.is_empty() {
            // All remaining tenants can't be migrated now.
            if matches!(rollout.stage, RolloutStage::Canaries | RolloutStage::Rolling) {
                tokio::time::sleep(FACTS_AGE).await;
            }
            return rollout.stage;
        }
        let failures = self.world.rollout_slots.failures();
        let started = self.clock.monotonic();
        let mut next =
            waiting.into_iter().filter(|object| !assigned.since.contains_key(&object.uid)).collect::<Vec<_>>();
        next.reverse();
        loop {
            let now = self.clock.monotonic();
            assigned.since.retain(|uid, _| self.world.rollout_slots.admits(uid));
            let mut busy = assigned.since.values().filter(|since| now.saturating_sub(**since) < SLOT_TIMEOUT).count();
            while busy < settings.rules.parallel
                && let Some(object) = next.pop()
            {
                self.world.rollout_slots.admit(&object.uid);
                assigned.since.insert(object.uid.clone(), now);
                self.scheduler.push(tenant_target(&object.namespace, &object.name), Priority::Periodic);
                busy += 1;
            }
            // All slots are used or timed out: the next query may be early.
            let idle = next.is_empty() && busy == 0 && now.saturating_sub(started) >= MIN_INTERVAL;
            if idle || now.saturating_sub(started) >= FACTS_AGE || self.world.rollout_slots.failures() != failures {
                return rollout.stage;
            }
            tokio::time::sleep(SLOT_CHECK).await;
        }
    }

    /// Whether a reconcile of this Tenant would migrate it: it exists and is not paused.
    fn may_migrate(&self, object: &ObjectId) -> bool {
        let key = Key::new(&object.namespace, &object.name);
        let paused = |key: &Key| {
            self.world.tenants.cache.get(key).is_some_and(|watched| {
                let annotations = watched.metadata().annotations.as_ref();
                annotations.is_some_and(|all| all.contains_key(names::PAUSED_ANNOTATION))
            })
        };
        exists(&self.world.tenants.cache, &key, &object.uid) && !paused(&key)
    }
}
