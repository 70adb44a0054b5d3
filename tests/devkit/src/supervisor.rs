//! A supervisor: a folder for one set of processes, and a small watcher that ends them and removes the folder.
//!
//! The watcher (`supervisor.sh`) reads a pipe from this process. Whether this process returns, panics, is
//! interrupted or killed, the kernel closes the pipe and the watcher ends the processes. An orderly stop closes the same
//! pipe; there is no other way.

use std::{
    env,
    fs::{self, File},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use anyhow::Context as _;

use crate::env_file::EnvFile;

const SCRIPT: &str = include_str!("supervisor.sh");

/// The order in which processes are ended: a process ends before those that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownStage {
    /// The command of `devkit run`.
    Command,
    /// The product's programs: operator, agent API; and others that a test starts.
    App,
    /// kube-apiserver and its controllers. Killed, because their data is deleted.
    ControlPlane,
    /// etcd. Killed as well.
    Store,
    /// Postgres. Its "immediate shutdown", so that it frees shared memory and ends its backends.
    Database,
}

impl ShutdownStage {
    /// Number in the order, signal, tenths of a second until SIGKILL.
    pub(crate) fn rule(self) -> (u8, &'static str, u32) {
        match self {
            ShutdownStage::Command => (0, "TERM", 20),
            ShutdownStage::App => (1, "TERM", 30),
            ShutdownStage::ControlPlane => (2, "KILL", 0),
            ShutdownStage::Store => (3, "KILL", 0),
            ShutdownStage::Database => (4, "QUIT", 50),
        }
    }
}

/// See the module's description. Dropping the last handle ends everything that was registered.
#[derive(Debug)]
pub(crate) struct Supervisor {
    folder: PathBuf,
    logs: PathBuf,
    watcher: Mutex<Option<(Child, ChildStdin)>>,
}

impl Supervisor {
    /// A new folder, named after `label`, with its watcher.
    pub(crate) fn start(label: &str) -> anyhow::Result<Arc<Supervisor>> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("agent-tenancy-{label}-"))
            .tempdir()
            .with_context(|| format!("no folder can be made in {}", env::temp_dir().display()))?
            .keep();
        // Postgres may run as another user and must be able to reach its data folder.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        for part in ["pids", "data", "logs"] {
            fs::create_dir(folder.join(part))?;
        }
        if env::var_os("DEVKIT_KEEP_LOGS").is_some() {
            File::create(folder.join("keep"))?;
        }
        let log = File::create(folder.join("logs/supervisor.log"))?;
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("devkit-supervisor")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own group: Ctrl-C in the terminal must not reach it.
            .process_group(0)
            .spawn()
            .context("sh is missing: it is needed to end all processes reliably")?;
        let pipe = child.stdin.take().context("the supervisor has no pipe")?;
        Ok(Arc::new(Supervisor { logs: folder.join("logs"), folder, watcher: Mutex::new(Some((child, pipe))) }))
    }

    /// The one for processes that belong to no environment of this process, started at the first call.
    ///
    /// It is never dropped; the kernel closes its pipe when this process ends.
    pub(crate) fn of_process() -> anyhow::Result<Arc<Supervisor>> {
        static SUPERVISOR: OnceLock<Arc<Supervisor>> = OnceLock::new();
        static START: Mutex<()> = Mutex::new(());
        let _guard = START.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(supervisor) = SUPERVISOR.get() {
            return Ok(supervisor.clone());
        }
        let mut supervisor = Supervisor::start("process")?;
        // Logs of a test run stay together: `devkit run` keeps them when the run fails.
        if let (Some(env), Some(own)) = (EnvFile::from_env()?, Arc::get_mut(&mut supervisor)) {
            own.logs = env.logs;
        }
        Ok(SUPERVISOR.get_or_init(|| supervisor).clone())
    }

    /// Where servers keep their data; removed at the end.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where logs are written.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    /// The whole folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file in which a process that is about to start registers itself.
    pub(crate) fn registration(&self, stage: ShutdownStage, name: &str) -> PathBuf {
        // A program may be named by its path.
        let name = name.replace('/', "-");
        self.folder.join("pids").join(crate::unique(&format!("{}-{name}", stage.rule().0)))
    }

    /// Logs outlive the environment, for the analysis of a failure.
    pub(crate) fn keep_logs(&self) {
        // Losing the logs is no reason to fail.
        let _ = File::create(self.folder.join("keep"));
    }

    /// Ends all processes and removes the folder; returns when that is done. Blocks.
    pub(crate) fn stop(&self) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, pipe)) = watcher {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}
