//! Waiting for something to become true.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Polls `probe` until it succeeds and returns its value. After `timeout` it fails with the last error.
///
/// A single probe is cut off at the timeout too, so a probe that hangs can't hold the test.
pub async fn eventually<T>(
    timeout: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    // Short at first: most waits in a local environment are over within milliseconds.
    let mut pause = Duration::from_millis(10);
    let mut last = anyhow::anyhow!("no probe came to an end");
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if start.elapsed() + pause >= timeout {
            return Err(last).with_context(|| format!("not within {:.0?}: {what}", timeout));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
