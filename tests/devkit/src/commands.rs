//! Running commands such as kubectl and helm.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::Context as _;

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// The command, as one would type it.
    pub command: String,
    /// Its exit code; -1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Whether it ended with 0.
    pub fn is_success(&self) -> bool {
        self.status == 0
    }

    /// Standard output and standard error, one after the other.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its standard output, or an error with all of its output.
    pub fn ok(self) -> anyhow::Result<String> {
        anyhow::ensure!(
            self.is_success(),
            "`{}` ended with {}: {}{}",
            self.command,
            self.status,
            self.stderr.trim(),
            self.stdout.trim()
        );
        Ok(self.stdout)
    }
}

/// A command that uses that cluster, whatever the user's own configuration is.
pub(crate) fn command(program: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig);
    // The cluster is on loopback, where no proxy is wanted.
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(proxy);
    }
    command
}

/// Runs a command to its end with `input` on its standard input. Ended when the caller drops the future.
pub async fn run(mut command: Command, args: &[&str], input: Option<&str>) -> anyhow::Result<CommandOutput> {
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let name = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
    let text = format!("{name} {}", args.join(" "));
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("{name} can't be run"))?;
    let pipe = child.stdin.take();
    let feed = async move {
        if let (Some(mut pipe), Some(input)) = (pipe, input) {
            use tokio::io::AsyncWriteExt as _;
            // A command that ends before it has read everything reports its own error.
            let _ = pipe.write_all(input.as_bytes()).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.with_context(|| format!("`{text}` was lost"))?;
    Ok(CommandOutput {
        command: text,
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
