//! Lines on standard error that report what is being done while it takes long.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A build may be silent for minutes; a line now and then shows that it does not hang.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Reports what happens now.
pub(crate) fn say(line: &str) {
    eprintln!("devkit: {line}");
}

/// Runs `work` and reports it before, after, and every [`HEARTBEAT`] in between, with the elapsed time.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    say(&format!("{what} ..."));
    let (done, wait) = mpsc::channel::<()>();
    let label = what.to_owned();
    let heartbeat = thread::spawn(move || {
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            say(&format!("{label}: not finished after {} s", start.elapsed().as_secs()));
        }
    });
    let result = work();
    drop(done);
    // The thread only sleeps and prints, so its result does not matter.
    let _ = heartbeat.join();
    let end = if result.is_ok() { "done" } else { "failed" };
    say(&format!("{what}: {end} after {:.1} s", start.elapsed().as_secs_f32()));
    result
}
