//! pgbouncer: the installed one, else Debian's package, unpacked into the cache. There is no wheel of it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    debian,
    missing::Missing,
    places::{Places, is_program, output_of},
};

/// Debian's path of it, outside of users' search paths.
const INSTALLED: &str = "usr/sbin/pgbouncer";

/// The program. Blocks while it is fetched.
pub fn pgbouncer(places: &Places) -> anyhow::Result<PathBuf> {
    let installed = || Some(places.root.join(INSTALLED)).filter(|file| is_program(file));
    match places.find("pgbouncer").or_else(installed) {
        Some(program) => Ok(program),
        None => fetch(places).map_err(|error| {
            let reason = format!("pgbouncer is not on this machine and can't be fetched ({error:#})");
            Missing::new(reason, &["pgbouncer"]).into()
        }),
    }
}

fn fetch(places: &Places) -> anyhow::Result<PathBuf> {
    let folder = debian::packages(places, "pgbouncer", &["pgbouncer"], |new| {
        let files = Path::new("files");
        debian::wrap(new, &files.join(INSTALLED), files)?;
        output_of(&new.join("bin/pgbouncer"), &["--version".as_ref()]).map(drop).context("it doesn't run here")
    })?;
    Ok(folder.join("bin/pgbouncer"))
}
