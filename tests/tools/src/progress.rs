//! Lines on standard error that say what is being done while it takes long.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A build may be silent for minutes; nobody should have to wonder whether it hangs.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// One line about what happens now.
pub(crate) fn say(line: &str) {
    eprintln!("devkit: {line}");
}

/// Runs `work`, saying so before, every [`HEARTBEAT`] while it lasts, and after, with the elapsed time.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    say(&format!("{what} ..."));
    let (done, wait) = mpsc::channel::<()>();
    let label = what.to_owned();
    let heartbeat = thread::spawn(move || {
        while wait.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            say(&format!("{label}: still at it after {} s", start.elapsed().as_secs()));
        }
    });
    let result = work();
    drop(done);
    // The thread only sleeps and prints; that it ended is all we need to know.
    let _ = heartbeat.join();
    let end = if result.is_ok() { "done" } else { "failed" };
    say(&format!("{what}: {end} after {:.1} s", start.elapsed().as_secs_f32()));
    result
}
