//! pgbouncer: the machine's own. There is no wheel of it, and it takes its libraries from the system.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::places::{Places, is_program};

/// Debian puts it where only root's search path leads.
const DEBIAN: &str = "/usr/sbin/pgbouncer";

/// The program. It is never fetched.
pub fn pgbouncer(places: &Places) -> anyhow::Result<PathBuf> {
    find(places, Path::new(DEBIAN))
}

fn find(places: &Places, known: &Path) -> anyhow::Result<PathBuf> {
    let known = || Some(known.to_owned()).filter(|file| is_program(file));
    places.find("pgbouncer").or_else(known).context(
        "pgbouncer is not on this machine: install the package `pgbouncer` of Debian or another distribution, \
         or put the program on the search path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn it_is_found_where_it_is_and_missed_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgbouncer");
        let nowhere = Places { path: OsString::new(), ..Places::from_env().unwrap() };
        let missed = find(&nowhere, &file).unwrap_err().to_string();
        assert!(missed.starts_with("pgbouncer is not on this machine: install the package"), "{missed}");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&nowhere, &file).unwrap(), file);
        let on_path = Places { path: dir.path().into(), ..nowhere };
        assert_eq!(find(&on_path, Path::new("/nowhere")).unwrap(), file);
    }
}
