//! Archives whose time is over are dropped here, one transaction each: by the leader, a few at a time, for as long as there
//! are any. What can't be dropped is told, and tried again in the next round.

use crate::controller::context::Context;
use crate::{
    api::{Notice, NoticeKind, Reason},
    effects::{
        database::breaker::{BreakerState, CircuitBreaker},
        error::EffectError,
        postgres::DueArchive,
    },
};
use std::{sync::Arc, time::Duration};

/// Archives in one look at the database.
const BATCH: usize = 20;
/// Pause after so many, so that many at once take nothing from the tenants.
const BREATH: Duration = Duration::from_secs(1);
/// Shortest pause between two rounds.
const SHORTEST: Duration = Duration::from_secs(5);

/// Looks for them at once, and then whenever one may be due, at least once in `period`.
pub(crate) async fn sweep(context: Arc<Context>, breaker: CircuitBreaker, period: Duration) {
    let mut state = breaker.follow();
    loop {
        if state.wait_for(BreakerState::is_open).await.is_err() {
            return;
        }
        let next = match context.drop_due_archives(&breaker).await {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(instance = breaker.name(), error = error.chain(), "the archives were not looked at");
                None
            }
        };
        let pause = context.scheduler.spread(period);
        tokio::time::sleep(next.map_or(pause, |due| due.clamp(SHORTEST.min(pause), pause))).await;
    }
}

impl Context {
    /// One round over everything that is due; how long until something else is.
    async fn drop_due_archives(&self, breaker: &CircuitBreaker) -> Result<Option<Duration>, EffectError> {
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
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Drops one. An error that is this archive's alone holds up nobody else.
    async fn drop_archive(&self, breaker: &CircuitBreaker, archive: &DueArchive) -> Result<(), EffectError> {
        let (object, schema) = (archive.object(), archive.schema.as_str());
        match self.world.perform_drop_archive(breaker, archive).await {
            Ok(true) => {
                tracing::info!(tenant = %archive.tenant_id, %object, uid = %object.uid, schema, "an archive was dropped");
                self.metrics.archive_handled("dropped");
                let note = format!("the time of archive '{schema}' was over, and it was dropped");
                let notice = Notice { kind: NoticeKind::Normal, reason: Reason::ArchiveDropped, note };
                // Its namespace may be gone, too.
                if let Err(error) = self.world.tenants.perform_record(&object, &notice).await {
                    tracing::debug!(error = error.chain(), "no event tells of the archive");
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) if error.fenced => {
                self.note_fencing(&error);
                Err(error)
            }
            // An outage, which is told elsewhere.
            Err(error) if !breaker.is_open() => Err(error),
            Err(error) => {
                let why = error.chain();
                tracing::warn!(tenant = %archive.tenant_id, %object, uid = %object.uid, schema, why, "an archive can't be dropped yet");
                self.metrics.archive_handled("held");
                Ok(())
            }
        }
    }
}
