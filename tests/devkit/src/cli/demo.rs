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
    let played = tokio::select! {
        played = play(options) => played,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    let demo = match played {
        Ok(demo) => demo,
        Err(error) => {
            eprintln!("\nThe demo failed at {error:#}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        tokio::select! {
            ended = demo.stay() => ended?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    demo.end().await?;
    Ok(ExitCode::SUCCESS)
}

async fn play(options: Options) -> anyhow::Result<Demo> {
    let programs = tokio::task::spawn_blocking(Programs::build).await??;
    Demo::play(options, &programs, Box::new(std::io::stdout())).await
}
