//! Rotating the cells' logins: one look for all of them, with one query, once in a period, when a request is made, and as
//! long as a rotation is under way. What the next step is says `plan::logins`.

use crate::controller::context::Context;
use crate::{
    domain::ident::CellNumber,
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        error::EffectError,
    },
    plan::instance::logins::{CellView, LoginPlan, LoginStep, LoginWait, Rules, plan_login},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// First and longest pause between two looks while a rotation waits for something.
const WAITING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most steps of one cell in one look; a rotation has five.
const MOST_STEPS: usize = 8;

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing is under way; something is due after so long, if anything is.
    Rest(Option<Duration>),
    /// A rotation waits.
    Waiting,
}

/// Looks at once, and then for as long as the process leads.
pub(crate) async fn rotate(context: Arc<Context>, breaker: CircuitBreaker, period: Duration, rules: Rules) {
    let (mut state, mut asked) = (breaker.follow(), context.logins_changed.subscribe());
    let (mut told, mut waiting) = (BTreeMap::new(), WAITING.0);
    loop {
        if state.wait_for(BreakerState::is_open).await.is_err() {
            return;
        }
        asked.borrow_and_update();
        let look = context.look_at_logins(&breaker, rules, &mut told).await;
        let pause = match look {
            Ok(Look::Rest(due)) => {
                waiting = WAITING.0;
                let period = context.scheduler.spread(period);
                due.map_or(period, |due| due.clamp(WAITING.0, period.max(WAITING.0)))
            }
            Ok(Look::Waiting) => {
                let pause = waiting;
                waiting = (waiting * 2).min(WAITING.1);
                pause
            }
            Err(error) => {
                context.note_fencing(&error);
                tracing::debug!(error = error.chain(), "the logins were not looked at");
                waiting = (waiting * 2).min(WAITING.1);
                waiting
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Somebody asks for something, or took something away.
            changes = asked.changed() => {
                if changes.is_err() {
                    return;
                }
                waiting = WAITING.0;
            }
        }
    }
}

impl Context {
    /// Takes every cell as far as it comes now.
    async fn look_at_logins(
        &self,
        breaker: &CircuitBreaker,
        rules: Rules,
        told: &mut BTreeMap<CellNumber, LoginWait>,
    ) -> Result<Look, EffectError> {
        // One cell at a time where nobody asks.
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
                let done = self.do_login_step(breaker, cell, &step).await?;
                (stepped, failed) = (stepped || done, failed || !done);
            }
            if !stepped {
                self.tell_waits(breaker, &waits, told);
                let under_way = failed || !waits.is_empty();
                return Ok(if under_way { Look::Waiting } else { Look::Rest(due.map(Duration::from_secs)) });
            }
        }
        Ok(Look::Waiting)
    }

    /// Does one step; `false` if it has to be tried again. An error that is this cell's alone holds up no other.
    async fn do_login_step(
        &self,
        breaker: &CircuitBreaker,
        cell: &CellView,
        step: &LoginStep,
    ) -> Result<bool, EffectError> {
        let number = cell.facts.cell;
        match self.world.perform_login_step(breaker, cell, step).await {
            Ok(_) => {
                self.metrics.login_stepped(step);
                tell(number, step);
                Ok(true)
            }
            Err(error) if error.fenced || !breaker.is_open() => Err(error),
            Err(error) => {
                let step = step.as_str();
                tracing::warn!(cell = %number, step, why = error.chain(), "a step of a login's rotation is tried again");
                Ok(false)
            }
        }
    }

    /// Says what is waited for, once.
    fn tell_waits(
        &self,
        breaker: &CircuitBreaker,
        waits: &BTreeMap<CellNumber, LoginWait>,
        told: &mut BTreeMap<CellNumber, LoginWait>,
    ) {
        self.metrics.logins_waiting(breaker.name(), waits.values());
        for (cell, wait) in waits {
            let alike = |old: &LoginWait| matches!((old, wait), (LoginWait::Sessions(_), LoginWait::Sessions(_)));
            if told.get(cell).is_some_and(|old| old == wait || alike(old)) {
                continue;
            }
            match wait {
                LoginWait::Replicas(names, until) => {
                    tracing::info!(%cell, replicas = names.join(", "), %until, "replicas have not acknowledged the new login yet");
                }
                LoginWait::Refusing(names) => {
                    tracing::warn!(%cell, replicas = names.join(", "), "replicas can't use the new login; the one before stays");
                }
                LoginWait::Sessions(sessions) => {
                    tracing::info!(%cell, sessions, "sessions still use the login before; it is locked when they have ended");
                }
                LoginWait::DamagedEntry => {
                    tracing::error!(%cell, "the cell's registry entry can't be read; its login is not rotated");
                }
                LoginWait::RoleGone(slot) => {
                    tracing::error!(%cell, login = slot.as_str(), "the role of the cell's other login is gone; nothing is rotated");
                }
            }
        }
        told.clone_from(waits);
    }
}

fn tell(cell: CellNumber, step: &LoginStep) {
    match step {
        LoginStep::Restore => tracing::warn!(%cell, "the cell's registry entry was gone; it has another login now"),
        LoginStep::Prepare { slot, requests, .. } => {
            let asked = requests.rotation.as_ref().or(requests.revocation.as_ref()).map_or("its age", |_| "a request");
            tracing::info!(%cell, login = slot.as_str(), reason = asked, "a rotation of the cell's login begins");
        }
        LoginStep::Set(next) => tracing::debug!(%cell, login = next.slot.as_str(), "the new login may log in"),
        LoginStep::Switch(next) => {
            tracing::info!(%cell, login = next.slot.as_str(), "replicas are told of the new login")
        }
        LoginStep::Lock { slot, force, replicas_timed_out } => {
            if !replicas_timed_out.is_empty() {
                let names = replicas_timed_out.join(", ");
                tracing::warn!(%cell, replicas = names, "replicas did not acknowledge the new login in time");
            }
            tracing::info!(%cell, login = slot.as_str(), force, "the login before can't log in any more");
        }
        LoginStep::EndSessions { slot } => {
            tracing::warn!(%cell, login = slot.as_str(), "the sessions of the revoked login were ended");
        }
    }
}
