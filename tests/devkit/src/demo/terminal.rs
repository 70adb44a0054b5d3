//! Runs commands as a reader would type them, in an environment that a reader can export.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::Value;

use super::programs::Programs;
use crate::{Environment, repository};

/// A command of the demo that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(150);

/// See the file's description.
pub(super) struct Terminal {
    out: Mutex<Box<dyn Write + Send>>,
    variables: BTreeMap<&'static str, String>,
    /// Variables with a value that a command printed, and the command.
    kept: BTreeMap<&'static str, String>,
    dir: PathBuf,
    step: String,
    number: u32,
    programs: PathBuf,
}

/// The answer of the agent API.
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Value,
}

impl Terminal {
    /// Makes a folder that is deleted with the environment, a search path with all programs, and a kubeconfig of its own.
    pub(super) fn new(env: &Environment, programs: &Programs, out: Box<dyn Write + Send>) -> anyhow::Result<Terminal> {
        let (_, file) = env.file();
        let dir = file.parent().context("an environment has a folder")?.join("data/demo");
        std::fs::create_dir_all(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        let links = dir.join("bin");
        programs.link_into(&links)?;
        let kubeconfig = dir.join("kubeconfig");
        std::fs::copy(env.kubeconfig_path()?, &kubeconfig)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let variables = BTreeMap::from([
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("PATH", format!("{}:{path}", links.display())),
        ]);
        let (out, kept, step) = (Mutex::new(out), BTreeMap::new(), "the beginning".to_owned());
        Ok(Terminal { out, variables, kept, dir, step, number: 0, programs: links })
    }

    /// The folder that is deleted with the environment.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The place of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Sets a variable for all further commands; it is among [`Terminal::exports`].
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.insert(name, value.into());
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Removes a variable, also from [`Terminal::exports`].
    pub(super) fn forget(&mut self, name: &'static str) {
        self.variables.remove(name);
        self.kept.remove(name);
    }

    /// What to type to repeat a command elsewhere. It contains passwords, which protect nothing but the demo.
    pub(super) fn exports(&self) -> String {
        let export = |(name, value): (&&str, &String)| match *name {
            "PATH" => format!("export PATH={}:$PATH", self.programs.display()),
            name => format!("export {name}={value}"),
        };
        let mut lines = vec![format!("cd {}", repository().canonicalize().unwrap_or_default().display())];
        lines.extend(self.variables.iter().filter(|(name, _)| !self.kept.contains_key(*name)).map(export));
        lines.extend(self.kept.iter().map(|(name, command)| format!("export {name}=$({command})")));
        lines.join("\n")
    }

    /// The current step, for error messages.
    pub(super) fn step(&self) -> &str {
        &self.step
    }

    /// Begins a step of the demo.
    pub(super) fn open(&mut self, step: &str) {
        self.number += 1;
        self.step = step.to_owned();
        self.say(&format!("\n== {}. {step}", self.number));
    }

    /// A line for the reader.
    pub(super) fn say(&self, line: &str) {
        // A reader may close the pipe (`| head`); the exit code still reports the result.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Runs a command and shows both; it has to succeed. Returns its standard output.
    pub(super) async fn run(&self, command: &str) -> anyhow::Result<String> {
        let (code, output, errors) = self.perform(command).await?;
        self.show(&output);
        self.show(&errors);
        anyhow::ensure!(code == 0, "`{command}` ended with {code}: {}", errors.trim());
        Ok(output)
    }

    /// Runs a command and shows both; it has to fail, and to say `expected`.
    pub(super) async fn run_refused(&self, command: &str, expected: &str) -> anyhow::Result<()> {
        let (code, output, errors) = self.perform(command).await?;
        self.show(&output);
        self.show(&errors);
        anyhow::ensure!(code != 0, "`{command}` should have been refused");
        anyhow::ensure!(errors.contains(expected), "`{command}` was refused otherwise than by '{expected}'");
        Ok(())
    }

    /// Runs `command` as `NAME=$(command)` and keeps what it printed, without showing it.
    pub(super) async fn keep(&mut self, name: &'static str, command: &str) -> anyhow::Result<String> {
        self.say(&format!("$ export {name}=$({command})"));
        let (code, output, errors) = self.quietly(command).await?;
        self.show(&errors);
        anyhow::ensure!(code == 0, "`{command}` ended with {code}: {}", errors.trim());
        self.set(name, output.trim_end());
        self.kept.insert(name, command.to_owned());
        Ok(output.trim_end().to_owned())
    }

    /// Runs a `curl` command with these arguments, shows it and the answer, and checks the status.
    pub(super) async fn call(&self, args: &str, expected: u16) -> anyhow::Result<Answer> {
        let command = format!("curl -sS -w '\\n%{{http_code}}\\n' {args}");
        let output = self.run(&command).await?;
        let (body, status) = output.trim_end().rsplit_once('\n').context("curl printed no status")?;
        let status: u16 = status.trim().parse().context("curl printed no status")?;
        anyhow::ensure!(status == expected, "the answer is {status}, not {expected}");
        Ok(Answer { status, body: serde_json::from_str(body).unwrap_or_default() })
    }

    async fn perform(&self, command: &str) -> anyhow::Result<(i32, String, String)> {
        self.say(&format!("$ {command}"));
        self.quietly(command).await
    }

    /// Runs a command without showing anything.
    pub(super) async fn quietly(&self, command: &str) -> anyhow::Result<(i32, String, String)> {
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", command]).current_dir(repository()).envs(&self.variables).stdin(Stdio::null());
        // Everything is on this machine, where no proxy is wanted.
        for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            shell.env_remove(proxy);
        }
        shell.env("PGCONNECT_TIMEOUT", OsString::from("10")).kill_on_drop(true);
        let done = tokio::time::timeout(TIMEOUT, shell.output())
            .await
            .with_context(|| format!("`{command}` has not ended within {TIMEOUT:.0?}"))?
            .with_context(|| format!("`{command}` can't be run"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr)))
    }

    fn show(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.say(&format!("  {line}"));
        }
    }
}
