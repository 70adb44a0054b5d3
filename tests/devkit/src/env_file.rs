//! The description of an environment for other processes: the file that `$DEVKIT_ENV` names.

use std::{
    env, fmt, fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Everything needed to use an environment that another process has started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvFile {
    /// A kubeconfig for the cluster's administrator; none without a control plane.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server.
    pub apiserver: Option<String>,
    /// The API server's audit log, where it writes one.
    #[serde(default)]
    pub audit: Option<PathBuf>,
    /// Where the logs are.
    pub logs: PathBuf,
    /// Its Postgres servers; the first one is the default.
    pub postgres: Vec<PostgresEntry>,
}

/// How to reach one server as its superuser.
#[derive(Clone, Serialize, Deserialize)]
pub struct PostgresEntry {
    /// Major version.
    pub major: u32,
    /// Address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Password of the superuser `postgres`.
    pub password: String,
}

/// Without the password.
impl fmt::Debug for PostgresEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres {} on {}:{}", self.major, self.host, self.port)
    }
}

impl EnvFile {
    /// The environment of this test run, if `$DEVKIT_ENV` names one.
    pub fn from_env() -> anyhow::Result<Option<EnvFile>> {
        let Some(path) = env::var_os("DEVKIT_ENV").filter(|path| !path.is_empty()) else { return Ok(None) };
        let path = Path::new(&path);
        let text = fs::read(path).with_context(|| {
            format!("DEVKIT_ENV names {}, which can't be read; is its environment still up?", path.display())
        })?;
        let env =
            serde_json::from_slice(&text).with_context(|| format!("{} is no environment's file", path.display()))?;
        Ok(Some(env))
    }

    /// Its server of that major version.
    pub fn postgres_of(&self, major: u32) -> Option<PostgresEntry> {
        self.postgres.iter().find(|entry| entry.major == major).cloned()
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        Ok(serde_json::to_writer_pretty(file, self)?)
    }
}
