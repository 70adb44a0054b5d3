//! The leader drops expired archives, one transaction each, a few at a time. An archive that can't be dropped is logged, and
//! retried in the next round.

use crate::controller::{context::OperatorContext, failures::TaskFailures};
use crate::{
    api::{Notice, NoticeKind, Reason},
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        error::EffectError,
        postgres::DueArchive,
    },
};
use std::{sync::Arc, time::Duration};

/// Most archives in one query.
const BATCH: usize = 20;
/// Pause after a batch, so that many expired archives don't slow down the tenants.
const BATCH_PAUSE: Duration = Duration::from_secs(1);
/// Minimum pause between two rounds.
const MIN_PAUSE: Duration = Duration::from_secs(5);

/// Drops expired archives at once, and then whenever one may have expired, at least once in `period`.
pub(crate) async fn drop_expired(context: Arc<OperatorContext>, breaker: CircuitBreaker, period: Duration) {
    let mut state = breaker.follow();
    let mut failures = TaskFailures::new(&context.metrics, "archives", breaker.name());
    loop {
        if state.wait_for(BreakerState::is_closed).await.is_err() {
            return;
        }
        let next = match context.drop_expired_archives(&breaker).await {
            Ok(next) => {
                failures.succeed();
                next
            }
            Err(error) => {
                failures.record(&error);
                None
            }
        };
        let pause = context.scheduler.spread(period);
        tokio::time::sleep(next.map_or(pause, |due| due.clamp(MIN_PAUSE.min(pause), pause))).await;
    }
}

impl OperatorContext {
    /// Drops all expired archives. Returns the time until the next one expires.
    async fn drop_expired_archives(&self, breaker: &CircuitBreaker) -> Result<Option<Duration>, EffectError> {
        let mut last = None;
        loop {
            let found = self.world.observe_due_archives(breaker, last, BATCH).await?;
            for archive in &found.due {
                last = Some(archive.incarnation);
                self.drop_archive(breaker, archive).await?;
            }
            if found.due.len() < BATCH {
                return Ok(found.next_seconds.map(Duration::from_secs));
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }

    /// Drops one archive. An error that concerns only this archive does not stop the round.
    async fn drop_archive(&self, breaker: &CircuitBreaker, archive: &DueArchive) -> Result<(), EffectError> {
        let (object, schema) = (archive.object(), archive.schema.as_str());
        match self.world.perform_drop_archive(breaker, archive).await {
            Ok(true) => {
                tracing::info!(tenant = %archive.tenant_id, %object, uid = %object.uid, schema, "an archive was dropped");
                self.metrics.count_archive("dropped");
                let note = format!("archive '{schema}' had expired and was dropped");
                let notice = Notice { kind: NoticeKind::Normal, reason: Reason::ArchiveDropped, note };
                // Its namespace may be deleted, too.
                if let Err(error) = self.world.tenants.perform_record(&object, &notice).await {
                    tracing::debug!(error = error.chain(), "the event about the archive was not recorded");
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) if error.fenced => {
                self.note_fencing(&error);
                Err(error)
            }
            // The supervisor reports an outage.
            Err(error) if !breaker.is_closed() => Err(error),
            Err(error) => {
                let why = error.chain();
                tracing::warn!(tenant = %archive.tenant_id, %object, uid = %object.uid, schema, why, "an archive can't be dropped yet");
                self.metrics.count_archive("held");
                Ok(())
            }
        }
    }
}
