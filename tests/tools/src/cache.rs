//! Entries of the cache: one process at a time creates an entry, and it becomes visible when it is complete.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::progress;

/// Creates a folder of the cache unless it exists: `fill` fills a new one, which is then renamed.
pub(crate) fn once(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    if !folder.is_dir() {
        let _lock = lock(folder)?;
        if !folder.is_dir() {
            let parent = folder.parent().context("a cache entry needs a folder")?;
            let new = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent)?;
            fill(new.path())?;
            fs::rename(new.keep(), folder)?;
        }
    }
    Ok(folder.to_owned())
}

/// Locks an entry while one process creates it. A second process waits, and then finds the entry.
pub(crate) fn lock(target: &Path) -> anyhow::Result<File> {
    let parent = target.parent().context("a cache entry needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("the cache folder {} can't be created", parent.display()))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let file = File::create(parent.join(format!(".{name}.lock")))?;
    if file.try_lock().is_err() {
        progress::step(&format!("waiting for another process that creates {name}"), || Ok(file.lock()?))?;
    }
    Ok(file)
}
