//! `devkit run -- COMMAND`.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context as _;
use devkit::{Environment, Options, Spec};
use tokio::signal::unix::{SignalKind, signal};

use super::leave;

/// Exit codes above 128 stand for a signal, as in a shell.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// See the verb's description.
pub(super) async fn run(options: Options, command: &[String]) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let env = tokio::select! {
        env = Environment::start(options) => env?,
        _ = interrupt.recv() => leave(130),
        _ = terminate.recv() => leave(143),
    };
    let (file, path) = env.file();
    let (program, args) = command.split_first().context("no command was given")?;
    let mut spec = Spec::new(program, program).args(args).env("DEVKIT_ENV", path).for_user();
    if let Some(kubeconfig) = &file.kubeconfig {
        spec = spec.env("KUBECONFIG", kubeconfig);
    }
    let child = env.spawn(spec)?;
    let status = loop {
        tokio::select! {
            status = child.ended() => break status?,
            _ = interrupt.recv() => child.interrupt(),
            _ = terminate.recv() => child.terminate(),
        }
    };
    if !status.success() {
        env.keep_logs();
        eprintln!("devkit: the command ended with {status}; logs are kept in {}", env.logs().display());
    }
    env.stop().await?;
    Ok(code_of(status))
}
