//! Watching over the upgrade of a fleet's tables: gives turns to Tenants and wakes them. What is done in a turn is the pass's
//! business, and whose turn it is says `plan::rollout`.

use crate::controller::{
    context::Context,
    queue::work_queue::Priority,
    reconcile::{orphans::lives, worker::tenant_target},
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

/// How long a view of the fleet is good for while there is something to do.
const VIEW: Duration = Duration::from_secs(2);
/// Shortest time between two views.
const SOONEST: Duration = Duration::from_millis(500);
/// How often it is looked whether a turn was taken.
const GLANCE: Duration = Duration::from_millis(50);
/// A Tenant that did not take its turn for so long keeps it, but nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is not in the ledger.
pub(crate) struct RolloutSettings {
    /// How it is done.
    pub rules: RolloutRules,
    /// Who goes first, as `namespace/name`.
    pub canaries: Vec<String>,
    /// How often the fleet is looked at when nobody is behind.
    pub period: Duration,
}

/// Watches for as long as the process leads.
pub(crate) async fn watch(context: Arc<Context>, settings: RolloutSettings) {
    let mut databases = context.world.instances.follow();
    let mut own = context.own.subscribe();
    let mut rollout_slots = RolloutSlots { since: HashMap::new() };
    let mut told = None;
    loop {
        databases.wait_for_any().await;
        own.borrow_and_update();
        let stage = match context.look_at_fleet(&settings).await {
            Ok(facts) => {
                let stage = context.take_turns(&settings, &mut rollout_slots, &facts).await;
                if told.replace(stage) != Some(stage) {
                    tell(stage, &facts);
                }
                stage
            }
            Err(error) => {
                tracing::debug!(error = error.chain(), "the fleet's migrations were not looked at");
                RolloutStage::Holding
            }
        };
        let pause = match stage {
            RolloutStage::Canaries | RolloutStage::Rolling => continue,
            RolloutStage::Holding | RolloutStage::Halted => VIEW,
            RolloutStage::Done => context.scheduler.spread(settings.period),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // One that comes back may have tenants that are behind.
            () = databases.changed() => {}
            changed = own.changed() => if changed.is_err() { return },
        }
    }
}

fn tell(stage: RolloutStage, facts: &RolloutFacts) {
    let RolloutFacts { tenants, behind, blocked, .. } = facts;
    match stage {
        RolloutStage::Halted => {
            tracing::warn!(tenants, behind, blocked, "the upgrade of the tenants' tables is halted")
        }
        RolloutStage::Done => tracing::info!(tenants, "every tenant's tables are up to date"),
        RolloutStage::Canaries | RolloutStage::Holding | RolloutStage::Rolling => {
            tracing::info!(stage = stage.as_str(), tenants, behind, blocked, "upgrading the tenants' tables");
        }
    }
}

/// Who has a turn, and since when.
struct RolloutSlots {
    since: HashMap<Uid, Duration>,
}

impl Context {
    /// Looks at every database that can be asked: all their tenants are one fleet.
    async fn look_at_fleet(&self, settings: &RolloutSettings) -> Result<RolloutFacts, EffectError> {
        let target = resolve_target(&self.installation, &self.world.replica_tracker.observe());
        let own = self.own.borrow().clone();
        let (canaries, first) = (&settings.canaries, settings.rules.canaries);
        let mut found = Vec::new();
        for breaker in self.world.instances.breakers().iter().filter(|breaker| breaker.is_open()) {
            match self.world.observe_fleet(breaker, target, own.as_ref(), canaries, first).await {
                Ok(facts) => found.push((breaker.name().to_owned(), facts)),
                // It has just gone out; the others go on.
                Err(_) if !breaker.is_open() => {}
                Err(error) => return Err(error),
            }
        }
        let all = found.iter().map(|(_, facts)| facts.clone()).reduce(RolloutFacts::merge);
        let facts = all.ok_or_else(|| EffectError::new(ErrorClass::Transient, "no database can be asked"))?;
        let stage = plan_rollout(&facts, &settings.rules).stage;
        self.metrics.looked_at_fleet(&facts, stage);
        let own = own.as_ref().map_or(0, CustomMigrations::version);
        self.fleet.send_if_modified(|views| {
            let before = views.clone();
            for (name, facts) in found {
                // In one that is done nobody waits for what goes on in another.
                let stage = if facts.behind == 0 { RolloutStage::Done } else { stage };
                let (behind, blocked) = (facts.behind, facts.blocked);
                views.insert(name, FleetView { stage, behind, blocked, target, own });
            }
            *views != before
        });
        Ok(facts)
    }

    /// Gives turns by one view of the fleet until it is too old, or a file failed.
    async fn take_turns(
        &self,
        settings: &RolloutSettings,
        rollout_slots: &mut RolloutSlots,
        facts: &RolloutFacts,
    ) -> RolloutStage {
        let rollout = plan_rollout(facts, &settings.rules);
        let waiting: Vec<&ObjectId> = rollout.rollout_slots.iter().filter(|object| self.may_migrate(object)).collect();
        // Whoever is not among them has had its turn, or nobody has one any more.
        let over: Vec<Uid> =
            rollout_slots.since.keys().filter(|uid| !waiting.iter().any(|o| o.uid == **uid)).cloned().collect();
        for uid in over {
            rollout_slots.since.remove(&uid);
            self.world.rollout_slots.end(&uid);
        }
        if waiting.is_empty() {
            // Something is to be done, by those who can't.
            if matches!(rollout.stage, RolloutStage::Canaries | RolloutStage::Rolling) {
                tokio::time::sleep(VIEW).await;
            }
            return rollout.stage;
        }
        let failures = self.world.rollout_slots.failures();
        let started = self.clock.monotonic();
        let mut next =
            waiting.into_iter().filter(|object| !rollout_slots.since.contains_key(&object.uid)).collect::<Vec<_>>();
        next.reverse();
        loop {
            let now = self.clock.monotonic();
            rollout_slots.since.retain(|uid, _| self.world.rollout_slots.admits(uid));
            let mut busy = rollout_slots.since.values().filter(|since| now.saturating_sub(**since) < PATIENCE).count();
            while busy < settings.rules.parallel
                && let Some(object) = next.pop()
            {
                self.world.rollout_slots.admit(&object.uid);
                rollout_slots.since.insert(object.uid.clone(), now);
                self.scheduler.push(tenant_target(&object.namespace, &object.name), Priority::Periodic);
                busy += 1;
            }
            // Everybody has had its turn, or is not waited for: then the next view may be a little early.
            let idle = next.is_empty() && busy == 0 && now.saturating_sub(started) >= SOONEST;
            if idle || now.saturating_sub(started) >= VIEW || self.world.rollout_slots.failures() != failures {
                return rollout.stage;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether a pass of this Tenant would do anything: it is there, and not paused.
    fn may_migrate(&self, object: &ObjectId) -> bool {
        let key = Key::new(&object.namespace, &object.name);
        let paused = |key: &Key| {
            self.world.tenants.cache.get(key).is_some_and(|watched| {
                let annotations = watched.metadata().annotations.as_ref();
                annotations.is_some_and(|all| all.contains_key(names::PAUSED_ANNOTATION))
            })
        };
        lives(&self.world.tenants.cache, &key, &object.uid) && !paused(&key)
    }
}
