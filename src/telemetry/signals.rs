//! Signals that stop the process: SIGTERM from an orchestrator, SIGINT from a terminal.

use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

/// Returns when the process receives SIGTERM or SIGINT.
pub async fn stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "can't listen for SIGTERM");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        Ok(()) = ctrl_c() => {}
    }
}
