//! One supervised process: our own programs, and the servers of an environment.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::sync::watch;

use crate::{
    Places,
    supervisor::{ShutdownStage, Supervisor},
    wait::eventually,
};

/// Registers itself with the supervisor before it becomes the program, so there is no moment in which the parent
/// can die and leave it behind. A process that can't register (the supervisor is closing) doesn't start.
const REGISTER: &str = r#"printf '%s %s\n' "$1" "$$" >"$0" || exit 70; shift; exec "$@""#;

/// What to start: a program, its arguments and environment, and where its output goes.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    dir: Option<PathBuf>,
    log: Option<PathBuf>,
    stage: ShutdownStage,
    terminal: Terminal,
}

/// How a process uses the terminal of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminal {
    /// Nothing: no input, output into the log, a process group of its own.
    None,
    /// Input and output, in a process group of its own.
    Streams,
    /// Input and output, in the terminal's foreground group, as reading from a terminal needs.
    Foreground,
}

impl Spec {
    /// A program; `name` is used for its log file and in messages.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Spec {
        Spec {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            log: None,
            stage: ShutdownStage::App,
            terminal: Terminal::None,
        }
    }

    /// A command for the user: it has this process's input and output, and no log. It is ended before all others.
    #[must_use]
    pub fn for_user(mut self) -> Spec {
        use std::io::IsTerminal as _;
        self.terminal = if std::io::stdin().is_terminal() { Terminal::Foreground } else { Terminal::Streams };
        self.stage(ShutdownStage::Command)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Spec {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Spec {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; everything else is inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Spec {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable away from the process.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Spec {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// The folder it runs in.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Spec {
        self.dir = Some(dir.into());
        self
    }

    /// The file its output is appended to, in the environment's logs unless it has an absolute path; without it, one named
    /// after the process.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Spec {
        self.log = Some(file.into());
        self
    }

    /// When it is ended, compared with others; `ShutdownStage::App` if not set.
    #[must_use]
    pub fn stage(mut self, stage: ShutdownStage) -> Spec {
        self.stage = stage;
        self
    }
}

/// A running process in a group of its own. Ends when it is dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    log: PathBuf,
    log_start: u64,
    leads_group: bool,
    exit: watch::Receiver<Option<ExitStatus>>,
    // Kept so that an environment's supervisor lives as long as what it watches.
    _supervisor: Arc<Supervisor>,
}

impl Process {
    /// Starts it under the supervisor of this process. To have it end with an environment: `Environment::spawn`.
    pub fn spawn(spec: Spec) -> anyhow::Result<Process> {
        Process::spawn_in(&Supervisor::of_process()?, spec)
    }

    pub(crate) fn spawn_in(supervisor: &Arc<Supervisor>, spec: Spec) -> anyhow::Result<Process> {
        let Spec { name, program, args, env, dir, log, stage, terminal } = spec;
        // Looked up here, because the shell that becomes it could only end with 127.
        let program = if program.components().count() > 1 {
            anyhow::ensure!(
                crate::tools::is_program(&program),
                "{name} can't be started: there is no program {}",
                program.display()
            );
            program
        } else {
            let places = Places::from_env()?;
            let text = program.to_string_lossy();
            places.find(&text).with_context(|| format!("{name} can't be started: {text} is not on the search path"))?
        };
        let log = match (log, terminal) {
            (Some(log), _) => supervisor.logs().join(log),
            (None, Terminal::Streams | Terminal::Foreground) => PathBuf::from("/dev/null"),
            (None, Terminal::None) => free_log(supervisor.logs(), &name),
        };
        let mut output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("the log file {} can't be opened", log.display()))?;
        let log_start = output.seek(SeekFrom::End(0))?;
        let registration = supervisor.registration(stage, &name);
        let (_, signal, grace) = stage.rule();
        let mut command = Command::new("sh");
        command
            .args([OsStr::new("-c"), OsStr::new(REGISTER), registration.as_os_str()])
            .arg(format!("{signal} {grace}"))
            .arg(&program)
            .args(&args);
        if terminal == Terminal::None {
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        }
        let leads_group = terminal != Terminal::Foreground;
        if leads_group {
            command.process_group(0);
        }
        for (variable, value) in &env {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().with_context(|| format!("{name} can't be started"))?;
        let pid = Pid::from_child(&child);
        let (exited, exit) = watch::channel(None);
        // A thread, not a task: it must go on when the runtime of the test that started the process is gone.
        thread::spawn(move || {
            if leads_group {
                // Its children end with it. Waits without reaping: as long as the process is a zombie,
                // its number can't be another group's.
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let status = child.wait();
            let _ = fs::remove_file(registration);
            if let Ok(status) = status {
                exited.send_replace(Some(status));
            }
        });
        Ok(Process { name, pid, log, log_start, leads_group, exit, _supervisor: supervisor.clone() })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// SIGKILL to the whole group, and waits until it is gone.
    pub async fn kill_9(&self) -> anyhow::Result<ExitStatus> {
        self.signal_group(Signal::KILL);
        self.wait_exit(Duration::from_secs(10)).await
    }

    /// SIGTERM to the process; returns at once.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as Ctrl-C; not needed where the process is in the terminal's foreground group, which gets it anyway.
    pub fn interrupt(&self) {
        if self.leads_group {
            self.signal_group(Signal::INT);
        }
    }

    /// SIGSTOP: the process hangs until [`Process::resume`].
    pub fn pause(&self) {
        self.signal_group(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal_group(Signal::CONT);
    }

    /// Waits until it has ended, however long that takes.
    pub async fn ended(&self) -> anyhow::Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let status =
            exit.wait_for(Option::is_some).await.with_context(|| format!("{} can't be waited for", self.name))?;
        status.with_context(|| format!("{} ended without a status", self.name))
    }

    /// Waits until it has ended.
    pub async fn wait_exit(&self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        match tokio::time::timeout(timeout, self.ended()).await {
            Ok(status) => status,
            Err(_) => anyhow::bail!("{} has not ended within {timeout:.0?}{}", self.name, self.log_tail()),
        }
    }

    /// Waits until a GET on that URL answers with a success. Fails at once when the process ends before.
    pub async fn wait_http(&self, url: &str, timeout: Duration) -> anyhow::Result<()> {
        let client = http_client()?;
        self.wait_ready(timeout, || async {
            client.get(url).timeout(Duration::from_secs(2)).send().await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Polls `probe` until it succeeds; a process that ends meanwhile, or the timeout, is an error with its last log lines.
    pub async fn wait_ready<T>(
        &self,
        timeout: Duration,
        probe: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut exit = self.exit.clone();
        let what = format!("{} is ready", self.name);
        let ready = eventually(timeout, &what, probe);
        tokio::select! {
            biased;
            result = ready => result.map_err(|error| error.context(format!("{} is not ready{}", self.name, self.log_tail()))),
            ended = exit.wait_for(Option::is_some) => {
                let status = ended.ok().and_then(|status| *status).map(|status| format!(" ({status})")).unwrap_or_default();
                Err(anyhow::anyhow!("{} ended at its start{status}{}", self.name, self.log_tail()))
            }
        }
    }

    /// The file its output goes to.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What this process (not an earlier one with the same file) has written so far.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_start))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("({} can't be read: {error})", self.log.display()),
        }
    }

    /// The last lines of the log and where the rest is, for error messages.
    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n  ");
        format!("; log in {}, its end:\n  {tail}", self.log.display())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // A reaped process is gone, and its id may belong to another one.
        if self.exit_status().is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        if !self.leads_group {
            self.signal(signal);
        } else if self.exit_status().is_none() {
            let _ = kill_process_group(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
    }
}

/// A client for loopback: no proxy, whatever the environment says.
pub(crate) fn http_client() -> anyhow::Result<reqwest::Client> {
    crate::control_plane::install_crypto();
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

/// `name.log`, or with a number behind it where several processes of one name run.
fn free_log(dir: &Path, name: &str) -> PathBuf {
    let first = dir.join(format!("{name}.log"));
    // create_new decides between two callers at the same time.
    let free = |file: &PathBuf| OpenOptions::new().create_new(true).append(true).open(file).is_ok();
    if free(&first) {
        return first;
    }
    (2..1000).map(|n| dir.join(format!("{name}-{n}.log"))).find(free).unwrap_or(first)
}
