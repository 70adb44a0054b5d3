//! Progress of long work, on standard error.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A build may print nothing for minutes.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Prints one line.
pub(crate) fn line(text: &str) {
    eprintln!("devkit: {text}");
}

/// Runs `work` and prints a line before it, every [`HEARTBEAT`] meanwhile, and after it, with the elapsed time.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    line(&format!("{what} ..."));
    let (done, wait) = mpsc::channel::<()>();
    let label = what.to_owned();
    let heartbeat = thread::spawn(move || {
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            line(&format!("{label}: still running after {} s", start.elapsed().as_secs()));
        }
    });
    let result = work();
    drop(done);
    // The thread only sleeps and prints, so its result does not matter.
    let _ = heartbeat.join();
    let end = if result.is_ok() { "done" } else { "failed" };
    line(&format!("{what}: {end} after {:.1} s", start.elapsed().as_secs_f32()));
    result
}
