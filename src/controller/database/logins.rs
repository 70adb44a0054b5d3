//! Rotates the cells' logins. One query reads all of them: once in a period, after a request, and while a rotation is in
//! progress. `plan::instance::logins` decides the next step.

use crate::controller::{context::OperatorContext, failures::TaskFailures};
use crate::{
    domain::ident::CellNumber,
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        error::EffectError,
    },
    plan::instance::logins::{CellView, LoginPlan, LoginStep, LoginWait, Rules, plan_login},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// First and maximum pause between two rounds while a rotation waits.
const WAITING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most steps of one cell in one round; a rotation has five.
const MOST_STEPS: usize = 8;

/// The result of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RotationRound {
    /// No rotation is in progress. The next one is due after this time, if it is known.
    Idle(Option<Duration>),
    /// A rotation waits.
    Waiting,
}

/// Rotates for as long as the process leads.
pub(crate) async fn rotate(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration, rules: Rules) {
    let (mut state, mut requested) = (breaker.follow(), context.logins_changed.subscribe());
    let mut failures = TaskFailures::new(&context.metrics, "logins", breaker.name());
    let (mut logged, mut waiting) = (BTreeMap::new(), WAITING.0);
    loop {
        if state.wait_for(BreakerState::is_closed).await.is_err() {
            return;
        }
        requested.borrow_and_update();
        let round = context.rotate_logins(&breaker, rules, &mut logged).await;
        if round.is_ok() {
            failures.succeed();
        }
        let pause = match round {
            Ok(RotationRound::Idle(due)) => {
                waiting = WAITING.0;
                let period = context.scheduler.spread(period);
                due.map_or(period, |due| due.clamp(WAITING.0, period.max(WAITING.0)))
            }
            Ok(RotationRound::Waiting) => {
                let pause = waiting;
                waiting = (waiting * 2).min(WAITING.1);
                pause
            }
            Err(error) => {
                context.note_fencing(&error);
                failures.record(&error);
                waiting = (waiting * 2).min(WAITING.1);
                waiting
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A rotation was requested, or an entry was deleted.
            changes = requested.changed() => {
                if changes.is_err() {
                    return;
                }
                waiting = WAITING.0;
            }
        }
    }
}

impl OperatorContext {
    /// Performs the possible steps of every cell.
    async fn rotate_logins(
        &self,
        breaker: &CircuitBreaker,
        rules: Rules,
        logged: &mut BTreeMap<CellNumber, LoginWait>,
    ) -> Result<RotationRound, EffectError> {
        // Scheduled rotations: one cell at a time.
        let mut scheduled: Option<CellNumber> = None;
        for _ in 0..MOST_STEPS {
            let (mut stepped, mut failed, mut due, mut waits) = (false, false, None, BTreeMap::new());
            for cell in &self.world.observe_logins(breaker).await? {
                let number = cell.facts.cell;
                let step = match plan_login(cell, rules, &self.world.replica_tracker.observe(), self.clock.now()) {
                    LoginPlan::Step(step) => step,
                    LoginPlan::Scheduled(step) if *scheduled.get_or_insert(number) == number => step,
                    LoginPlan::Scheduled(_) => {
                        due = Some(0);
                        continue;
                    }
                    LoginPlan::Wait(wait) => {
                        waits.insert(number, wait);
                        continue;
                    }
                    LoginPlan::Rest(left) => {
                        due = due.into_iter().chain(left).min();
                        continue;
                    }
                };
                let done = self.perform_login_step(breaker, cell, &step).await?;
                (stepped, failed) = (stepped || done, failed || !done);
            }
            if !stepped {
                self.log_waits(breaker, &waits, logged);
                let in_progress = failed || !waits.is_empty();
                return Ok(if in_progress {
                    RotationRound::Waiting
                } else {
                    RotationRound::Idle(due.map(Duration::from_secs))
                });
            }
        }
        Ok(RotationRound::Waiting)
    }

    /// Performs one step; `false` if it has to be retried. An error that concerns only this cell does not stop the round.
    async fn perform_login_step(
        &self,
        breaker: &CircuitBreaker,
        cell: &CellView,
        step: &LoginStep,
    ) -> Result<bool, EffectError> {
        let number = cell.facts.cell;
        match self.world.perform_login_step(breaker, cell, step).await {
            Ok(_) => {
                self.metrics.count_login_step(step);
                log_step(number, step);
                Ok(true)
            }
            Err(error) if error.fenced || !breaker.is_closed() => Err(error),
            Err(error) => {
                let step = step.as_str();
                tracing::warn!(cell = %number, step, why = error.chain(), "a step of the rotation of a login failed; it is retried");
                Ok(false)
            }
        }
    }

    /// Logs what each rotation waits for, once.
    fn log_waits(
        &self,
        breaker: &CircuitBreaker,
        waits: &BTreeMap<CellNumber, LoginWait>,
        logged: &mut BTreeMap<CellNumber, LoginWait>,
    ) {
        self.metrics.record_waiting_logins(breaker.name(), waits.values());
        for (cell, wait) in waits {
            let same_kind = |old: &LoginWait| matches!((old, wait), (LoginWait::Sessions(_), LoginWait::Sessions(_)));
            if logged.get(cell).is_some_and(|old| old == wait || same_kind(old)) {
                continue;
            }
            match wait {
                LoginWait::Replicas(names, until) => {
                    tracing::info!(%cell, replicas = names.join(", "), %until, "replicas have not acknowledged the new login yet");
                }
                LoginWait::Refusing(names) => {
                    tracing::warn!(%cell, replicas = names.join(", "), "replicas can't use the new login; the previous login stays");
                }
                LoginWait::Sessions(sessions) => {
                    tracing::info!(%cell, sessions, "sessions still use the previous login; it is locked when they have ended");
                }
                LoginWait::DamagedEntry => {
                    tracing::error!(%cell, "the cell's registry entry can't be read; its login is not rotated");
                }
                LoginWait::RoleGone(slot) => {
                    tracing::error!(%cell, login = slot.as_str(), "the role of the cell's other login is missing; nothing is rotated");
                }
            }
        }
        logged.clone_from(waits);
    }
}

fn log_step(cell: CellNumber, step: &LoginStep) {
    match step {
        LoginStep::Restore => tracing::warn!(%cell, "the cell's registry entry was missing; it has another login now"),
        LoginStep::Prepare { slot, requests, .. } => {
            let reason = requests.rotation.as_ref().or(requests.revocation.as_ref()).map_or("its age", |_| "a request");
            tracing::info!(%cell, login = slot.as_str(), reason, "the rotation of the cell's login starts");
        }
        LoginStep::Set(next) => tracing::debug!(%cell, login = next.slot.as_str(), "the new login is enabled"),
        LoginStep::Switch(next) => {
            tracing::info!(%cell, login = next.slot.as_str(), "the new login is published to the replicas")
        }
        LoginStep::Lock { slot, force, replicas_timed_out } => {
            if !replicas_timed_out.is_empty() {
                let names = replicas_timed_out.join(", ");
                tracing::warn!(%cell, replicas = names, "replicas did not acknowledge the new login in time");
            }
            tracing::info!(%cell, login = slot.as_str(), force, "the previous login is locked");
        }
        LoginStep::EndSessions { slot } => {
            tracing::warn!(%cell, login = slot.as_str(), "the sessions of the revoked login were ended");
        }
    }
}
