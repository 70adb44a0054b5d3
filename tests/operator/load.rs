//! Calls in the background while a test changes something.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::task::JoinHandle;

/// Calls in the background, until [`Load::end`].
pub struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Calls>>,
}

/// How calls went.
#[derive(Debug, Default)]
pub struct Calls {
    /// How many calls were answered.
    pub asked: u64,
    /// What was wrong with the wrong answers.
    pub failed: Vec<String>,
}

impl Calls {
    /// Counts an answer; `failure` says what is wrong with it.
    pub fn count(&mut self, failure: Option<String>) {
        self.asked += 1;
        self.failed.extend(failure);
    }
}

impl Load {
    /// Repeats a round of calls.
    pub fn start<R>(mut round: impl FnMut() -> R + Send + 'static) -> Self
    where
        R: Future<Output = anyhow::Result<Calls>> + Send,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut all = Calls::default();
            while !ended.load(Ordering::Relaxed) {
                let Calls { asked, failed } = round().await?;
                all.asked += asked;
                all.failed.extend(failed);
            }
            Ok(all)
        });
        Self { stop, task }
    }

    /// Ends after the current round.
    pub async fn end(self) -> anyhow::Result<Calls> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}
