//! Where programs are looked for and what is kept between runs: the only file that reads these variables.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// The search path, the cache and the variables that choose other ones. Tests make their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folder for everything that is expensive to make: `$AGENT_TENANCY_CACHE`, else `agent-tenancy` in the user's cache folder.
    pub cache: PathBuf,
    /// `$KUBEBUILDER_ASSETS`: a folder with etcd, kube-apiserver and others, which is asked first.
    pub assets: Option<PathBuf>,
    /// `$DEVKIT_POSTGRES_BIN`: the one folder with `postgres` and `initdb` to use.
    pub postgres_bin: Option<PathBuf>,
    /// `$DEVKIT_POSTGRES`: the major version to use where a test doesn't ask for one.
    pub postgres_version: Option<String>,
    /// `$PATH`.
    pub path: OsString,
}

impl Places {
    /// As the environment of this process says.
    pub fn from_env() -> anyhow::Result<Places> {
        let dir = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = match (dir("AGENT_TENANCY_CACHE"), dir("XDG_CACHE_HOME"), dir("HOME")) {
            (Some(cache), _, _) => cache,
            (None, Some(caches), _) => caches.join("agent-tenancy"),
            (None, None, Some(home)) => home.join(".cache/agent-tenancy"),
            (None, None, None) => env::temp_dir().join("agent-tenancy-cache"),
        };
        Ok(Places {
            cache: std::path::absolute(&cache)
                .with_context(|| format!("{} is no usable folder name", cache.display()))?,
            assets: dir("KUBEBUILDER_ASSETS"),
            postgres_bin: dir("DEVKIT_POSTGRES_BIN"),
            postgres_version: env::var("DEVKIT_POSTGRES").ok().filter(|value| !value.is_empty()),
            path: env::var_os("PATH").unwrap_or_default(),
        })
    }

    /// The program of that name on the search path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|dir| dir.join(program)).find(|file| is_program(file))
    }
}

/// Whether that file is there and may be run.
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Runs a program to its end and returns what it printed on standard output; its error output is in the error.
pub(crate) fn output_of(program: &Path, args: &[&OsStr]) -> anyhow::Result<String> {
    let output = std::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("{} can't be run", program.display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    anyhow::ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        program.display(),
        output.status,
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}
