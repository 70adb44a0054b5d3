//! A watch that is forwarded by the proxy, until a fault ends it.

use std::{future::pending, pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use hyper::body::Bytes;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Failure, WatchFault};

/// How a forwarded watch ends, and how long after its start.
pub(super) struct WatchEnd {
    pub(super) after: Duration,
    pub(super) how: WatchFault,
}

type Source = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// A running stream.
struct Lines {
    source: Source,
    /// The beginning of an event that is not complete yet.
    rest: Vec<u8>,
    end: Option<(Instant, WatchFault)>,
    commands: broadcast::Receiver<WatchFault>,
}

/// Whole lines of `source`, until `end` or a command.
pub(super) fn lines(
    source: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    end: Option<WatchEnd>,
    commands: broadcast::Receiver<WatchFault>,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    let end = end.map(|end| (Instant::now() + end.after, end.how));
    let lines = Lines { source: Box::pin(source), rest: Vec::new(), end, commands };
    stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        let item = lines.next().await?;
        // An ERROR event or a cut is the last item.
        let over = item.as_ref().map_or(true, |(_, over)| *over);
        Some((item.map(|(bytes, _)| bytes), (!over).then_some(lines)))
    })
}

impl Lines {
    /// The next whole lines, and whether they are the last.
    async fn next(&mut self) -> Option<Result<(Bytes, bool), Failure>> {
        loop {
            let end = self.end;
            let alarm = async {
                match end {
                    Some((when, how)) => {
                        sleep_until(when).await;
                        how
                    }
                    None => pending().await,
                }
            };
            let command = async {
                match self.commands.recv().await {
                    Ok(how) => how,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => pending().await,
                }
            };
            let how = tokio::select! {
                how = alarm => how,
                how = command => how,
                chunk = self.source.next() => match chunk? {
                    Err(error) => return Some(Err(error)),
                    Ok(chunk) => {
                        self.rest.extend_from_slice(&chunk);
                        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { continue };
                        let rest = self.rest.split_off(end + 1);
                        return Some(Ok((std::mem::replace(&mut self.rest, rest).into(), false)));
                    }
                },
            };
            match how {
                WatchFault::Cut => return Some(Err("the watch is cut".into())),
                WatchFault::Silent => pending().await,
                WatchFault::Expired => {
                    let event = serde_json::json!({ "type": "ERROR", "object": {
                        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": "too old resource version", "reason": "Expired", "code": 410,
                    }});
                    return Some(Ok((format!("{event}\n").into(), true)));
                }
            }
        }
    }
}
