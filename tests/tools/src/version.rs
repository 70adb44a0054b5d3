//! Supported server versions.

use std::{fmt, str::FromStr};

/// A supported major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PgVersion {
    /// 15, the oldest.
    V15,
    /// 16.
    V16,
    /// 17.
    V17,
    /// 18, the newest.
    V18,
}

/// Whether the tests are built for the two versions in the middle.
const MIDDLE: bool = option_env!("AGENT_TENANCY_MIDDLE").is_some();

impl PgVersion {
    /// All supported versions, oldest first.
    pub const ALL: [PgVersion; 4] = [PgVersion::V15, PgVersion::V16, PgVersion::V17, PgVersion::V18];
    /// The oldest version of the tests: the oldest supported one, except in a build for `make matrix`.
    pub const OLDEST: PgVersion = if MIDDLE { PgVersion::V16 } else { PgVersion::V15 };
    /// The newest version of the tests: the newest supported one, except in a build for `make matrix`.
    pub const NEWEST: PgVersion = if MIDDLE { PgVersion::V17 } else { PgVersion::V18 };

    /// The major version number.
    pub fn major(self) -> u32 {
        match self {
            PgVersion::V15 => 15,
            PgVersion::V16 => 16,
            PgVersion::V17 => 17,
            PgVersion::V18 => 18,
        }
    }

    /// From the major version number, if it is supported.
    pub fn from_major(major: u32) -> anyhow::Result<PgVersion> {
        if let Some(version) = PgVersion::ALL.into_iter().find(|version| version.major() == major) {
            return Ok(version);
        }
        let [oldest, .., newest] = PgVersion::ALL;
        anyhow::ensure!(major >= oldest.major(), "Postgres {major} is too old: agent-tenancy needs {oldest} or newer");
        anyhow::bail!("Postgres {major} is newer than what agent-tenancy was tested with ({oldest} to {newest})")
    }

    /// The version of its wheel.
    pub(crate) fn wheel(self) -> &'static str {
        match self {
            PgVersion::V15 => "15.19.0",
            PgVersion::V16 => "16.15.0",
            PgVersion::V17 => "17.11.0",
            PgVersion::V18 => "18.6.0",
        }
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.major().fmt(f)
    }
}

impl FromStr for PgVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let major =
            text.trim().parse().map_err(|_| anyhow::anyhow!("{text:?} is no major version of Postgres, such as 15"))?;
        PgVersion::from_major(major)
    }
}
