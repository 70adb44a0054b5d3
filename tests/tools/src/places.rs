//! Where programs are searched, and the cache: the only file that reads these environment variables.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;

/// The search path, the cache and the variables that choose other places. Tests construct their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folder for everything that takes long to fetch or build: `$AGENT_TENANCY_CACHE`, else `agent-tenancy` in the user's
    /// cache folder.
    pub cache: PathBuf,
    /// `$KUBEBUILDER_ASSETS`: a folder with etcd, kube-apiserver and others, which is searched first.
    pub assets: Option<PathBuf>,
    /// `$DEVKIT_POSTGRES_BIN`: the one folder with `postgres` and `initdb` to use.
    pub postgres_bin: Option<PathBuf>,
    /// `$DEVKIT_POSTGRES`: the default major version.
    pub postgres_version: Option<String>,
    /// `$PATH`.
    pub path: OsString,
    /// `/`: the root of paths that are searched besides `path`.
    pub root: PathBuf,
}

impl Places {
    /// From this process's environment variables.
    pub fn from_env() -> anyhow::Result<Places> {
        let dir = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = match (dir("AGENT_TENANCY_CACHE"), dir("XDG_CACHE_HOME"), dir("HOME")) {
            (Some(cache), _, _) => cache,
            (None, Some(caches), _) => caches.join("agent-tenancy"),
            (None, None, Some(folder)) => folder.join(".cache/agent-tenancy"),
            (None, None, None) => env::temp_dir().join("agent-tenancy-cache"),
        };
        Ok(Places {
            cache: std::path::absolute(&cache)
                .with_context(|| format!("{} is no usable folder name", cache.display()))?,
            assets: dir("KUBEBUILDER_ASSETS"),
            postgres_bin: dir("DEVKIT_POSTGRES_BIN"),
            postgres_version: env::var("DEVKIT_POSTGRES").ok().filter(|value| !value.is_empty()),
            path: env::var_os("PATH").unwrap_or_default(),
            root: PathBuf::from("/"),
        })
    }

    /// The program of that name on the search path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|dir| dir.join(program)).find(|file| is_program(file))
    }
}

/// The top folder of the repository that this crate was built in.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Whether that file exists and is executable.
pub fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end and returns its standard output. The error contains its error output.
pub fn output_of(program: &Path, args: &[&OsStr]) -> anyhow::Result<String> {
    output(Command::new(program).args(args))
}

/// Like [`output_of`].
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let program = Path::new(command.get_program()).display();
    let output = output.with_context(|| format!("{program} can't be run"))?;
    anyhow::ensure!(output.status.success(), "{program} failed ({}): {}", output.status, reason(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// An error output in one line. apt-get and pip mark the lines that give the reason.
fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let marked = lines.iter().copied().filter(|line| line.starts_with("E: ") || line.starts_with("ERROR: "));
    let marked: Vec<&str> = marked.collect();
    if marked.is_empty() { lines } else { marked }.join("; ")
}
