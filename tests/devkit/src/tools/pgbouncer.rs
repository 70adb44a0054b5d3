//! pgbouncer: the machine's own. There is no wheel of it, and it takes its libraries from the system.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::places::{Places, is_program};

/// Debian puts it where only root's search path leads.
const DEBIAN: &str = "/usr/sbin/pgbouncer";

/// The program. It is never fetched.
pub fn pgbouncer(places: &Places) -> anyhow::Result<PathBuf> {
    let known = || Some(Path::new(DEBIAN).to_owned()).filter(|file| is_program(file));
    places.find("pgbouncer").or_else(known).context(
        "pgbouncer is not on this machine: install the package `pgbouncer` of Debian or another distribution, \
         or put the program on the search path",
    )
}
