//! Being told to stop: SIGTERM from an orchestrator, SIGINT from a terminal.

use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

/// Done when the process was told to stop.
pub async fn stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "SIGTERM can't be listened for");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        Ok(()) = ctrl_c() => {}
    }
}
