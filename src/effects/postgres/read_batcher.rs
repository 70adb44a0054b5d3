//! Looks at several tenants in one round trip. To plan the look costs Postgres several times as much as to run it, so
//! whoever asks while a look is under way shares the next one. Nobody waits for company: alone, a look starts at once.

use super::{Database, PgError};
use crate::domain::ident::TenantId;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Most tenants in one look: bounds its message and how long it keeps the others.
const MOST: usize = 32;

/// A look that takes longer hangs, as on a connection that a middle box forgot; the others don't wait for it any more.
const PATIENCE: Duration = Duration::from_millis(250);

type Answer = Result<String, PgError>;

/// Who waits for a look.
#[derive(Default)]
pub(super) struct ReadBatcher(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<(TenantId, oneshot::Sender<Answer>)>,
    under_way: usize,
}

impl ReadBatcher {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is looked at next, if no more than `lanes` looks are under way then.
    fn depart(&self, lanes: usize) -> Vec<(TenantId, oneshot::Sender<Answer>)> {
        let mut state = self.state();
        if state.waiting.is_empty() || state.under_way >= lanes {
            return Vec::new();
        }
        state.under_way += 1;
        let count = state.waiting.len().min(MOST);
        state.waiting.drain(..count).collect()
    }

    fn arrive(&self) {
        self.state().under_way -= 1;
    }
}

impl Database {
    /// What a look at a tenant answers, as text. It begins after the call.
    ///
    /// # Errors
    /// As [`Database::observe_together`].
    pub(super) async fn look(&self, tenant: &TenantId) -> Answer {
        let (sender, mut receiver) = oneshot::channel();
        self.read_batcher.state().waiting.push((tenant.clone(), sender));
        self.clone().send_looks(1);
        loop {
            match tokio::time::timeout(PATIENCE, &mut receiver).await {
                Ok(answer) => {
                    return answer
                        .unwrap_or_else(|_| Err(PgError::interrupted(super::ledger::STEP, "the look ended early")));
                }
                Err(_) => self.clone().send_looks(usize::MAX),
            }
        }
    }

    fn send_looks(self, lanes: usize) {
        let aboard = self.read_batcher.depart(lanes);
        if aboard.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let (tenants, waiting): (Vec<_>, Vec<_>) = aboard.into_iter().unzip();
            let answers = self.observe_together(tenants).await;
            self.read_batcher.arrive();
            for (at, sender) in waiting.into_iter().enumerate() {
                let missing = || Err(PgError::bug(super::ledger::STEP, "the server left a tenant out"));
                let answer = match &answers {
                    Ok(answers) => answers.get(&at).cloned().map_or_else(missing, Ok),
                    Err(error) => Err(error.clone()),
                };
                // Whoever doesn't wait any more needs no answer.
                let _ = sender.send(answer);
            }
            self.send_looks(1);
        });
    }
}
