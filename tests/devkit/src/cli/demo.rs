//! `devkit demo`.

use std::{io::IsTerminal as _, process::ExitCode};

use devkit::{
    Options,
    demo::{Demo, Programs},
};
use tokio::signal::unix::{SignalKind, signal};

/// With a terminal the demo stays up until Ctrl-C. Every process ends in any case.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // Before anything is started: Ctrl-C must end it at any time.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        code = play(options) => code,
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}

async fn play(options: Options) -> anyhow::Result<ExitCode> {
    let programs = tokio::task::spawn_blocking(Programs::build).await??;
    match Demo::play(options, &programs, Box::new(std::io::stdout())).await {
        Ok(demo) => {
            if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
                demo.stay().await?;
            }
            demo.end().await?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("\nThe demo failed at {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}
