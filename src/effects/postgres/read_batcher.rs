//! Reads several tenants in one round trip. Planning the query costs Postgres several times as much as running it, so
//! requests that arrive during a query share the next one. A request without others starts its query at once.

use super::{Database, PgError};
use crate::domain::ident::TenantId;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// Most tenants in one query. Bounds the size of its message and the time that later requests wait.
const MOST: usize = 32;

/// A query that takes longer may hang, for example on a connection that a firewall dropped. Later requests no longer wait
/// for it.
const TIMEOUT: Duration = Duration::from_millis(250);

type BatchReply = Result<String, PgError>;

/// The requests that wait for a query.
#[derive(Default)]
pub(super) struct ReadBatcher(Mutex<BatcherState>);

#[derive(Default)]
struct BatcherState {
    waiting: Vec<(TenantId, oneshot::Sender<BatchReply>)>,
    running: usize,
}

impl ReadBatcher {
    fn state(&self) -> MutexGuard<'_, BatcherState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the requests of the next query, unless `lanes` queries are running.
    fn start_batch(&self, lanes: usize) -> Vec<(TenantId, oneshot::Sender<BatchReply>)> {
        let mut state = self.state();
        if state.waiting.is_empty() || state.running >= lanes {
            return Vec::new();
        }
        state.running += 1;
        let count = state.waiting.len().min(MOST);
        state.waiting.drain(..count).collect()
    }

    fn finish(&self) {
        self.state().running -= 1;
    }
}

impl Database {
    /// Reads a tenant by a query that starts after the call. Returns its reply as text.
    ///
    /// # Errors
    /// As [`Database::observe_together`].
    pub(super) async fn read_in_batch(&self, tenant: &TenantId) -> BatchReply {
        let (sender, mut receiver) = oneshot::channel();
        self.read_batcher.state().waiting.push((tenant.clone(), sender));
        self.clone().send_batches(1);
        loop {
            match tokio::time::timeout(TIMEOUT, &mut receiver).await {
                Ok(answer) => {
                    return answer
                        .unwrap_or_else(|_| Err(PgError::interrupted(super::ledger::STEP, "the query was canceled")));
                }
                Err(_) => self.clone().send_batches(usize::MAX),
            }
        }
    }

    fn send_batches(self, lanes: usize) {
        let batch = self.read_batcher.start_batch(lanes);
        if batch.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let (tenants, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let answers = self.observe_together(tenants).await;
            self.read_batcher.finish();
            for (at, sender) in waiting.into_iter().enumerate() {
                let missing = || Err(PgError::bug(super::ledger::STEP, "the reply lacks a tenant"));
                let answer = match &answers {
                    Ok(answers) => answers.get(&at).cloned().map_or_else(missing, Ok),
                    Err(error) => Err(error.clone()),
                };
                // The request may have been dropped.
                let _ = sender.send(answer);
            }
            self.send_batches(1);
        });
    }
}
