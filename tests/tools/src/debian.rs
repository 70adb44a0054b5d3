//! Programs and libraries from Debian packages, for machines without them. Nothing is installed: packages are downloaded
//! and unpacked into the cache, which needs no root.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    cache,
    places::{Places, output},
    progress,
};

/// Unpacks these packages into `<cache>/<name>-<distribution>/files` once and returns that folder's parent. Libraries on
/// which they depend and which the machine lacks come with them.
///
/// `finish` works on the new folder before others can see it.
pub(crate) fn packages(
    places: &Places,
    name: &str,
    packages: &[&str],
    finish: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = places.cache.join(format!("{name}-{}", distribution(places)));
    cache::once(&folder, |new| {
        let program = |name: &str| places.find(name).with_context(|| format!("{name} is not on the search path"));
        let (apt_get, dpkg_deb) = (program("apt-get")?, program("dpkg-deb")?);
        progress::step(&format!("fetching Debian's {}", packages.join(", ")), || {
            let downloads = new.join("downloads");
            fs::create_dir(&downloads)?;
            let files = Apt::new(&apt_get, places, &downloads)?.download(packages)?;
            for file in files {
                output(Command::new(&dpkg_deb).arg("-x").arg(file).arg(new.join("files")))?;
            }
            fs::remove_dir_all(downloads)?;
            finish(new)
        })
    })
}

/// Writes a script `<folder>/bin/<program>` that runs the program with the libraries in `<folder>/<libraries>`. Both paths
/// are relative to the folder, so that it may be moved or copied.
pub(crate) fn wrap(folder: &Path, program: &Path, libraries: &Path) -> anyhow::Result<()> {
    let name = program.file_name().context("a program needs a name")?;
    let inside = |dir: &Path| format!("$here/../{}", dir.display());
    let paths: Vec<String> = library_folders(folder, libraries).iter().map(|libraries| inside(libraries)).collect();
    let script = format!(
        "#!/bin/sh\n\
         # Runs the program of the same name with the libraries that this machine lacks.\n\
         here=$(dirname \"$(readlink -f \"$0\")\")\n\
         export LD_LIBRARY_PATH=\"{}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\"\n\
         exec \"{}\" \"$@\"\n",
        paths.join(":"),
        inside(program),
    );
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    fs::write(bin.join(name), script)?;
    Ok(fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?)
}

/// `usr/lib/x86_64-linux-gnu` and the like, of the unpacked packages in `folder/files`, relative to `folder`.
fn library_folders(folder: &Path, files: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for parent in ["usr/lib", "lib"].map(|dir| files.join(dir)) {
        let entries = fs::read_dir(folder.join(&parent)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name());
        found.extend(names.filter(|name| name.to_string_lossy().contains("-linux-gnu")).map(|name| parent.join(name)));
    }
    found.sort();
    found
}

/// Such as "debian-12", because packages of one release don't fit another.
fn distribution(places: &Places) -> String {
    let text = fs::read_to_string(places.root.join("etc/os-release")).unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map_or("unknown", |value| value.trim_matches('"')).to_owned()
    };
    format!("{}-{}", value("ID"), value("VERSION_ID"))
}

/// apt-get with separate package lists: the system's may be missing or old, and only root may update them.
struct Apt<'a> {
    program: &'a Path,
    options: Vec<OsString>,
    folder: &'a Path,
}

impl<'a> Apt<'a> {
    fn new(program: &'a Path, places: &Places, folder: &'a Path) -> anyhow::Result<Apt<'a>> {
        let (state, cache) = (folder.join("state"), folder.join("cache"));
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(cache.join("archives/partial"))?;
        let option = |name: &str, value: &Path| {
            let mut option = OsString::from(format!("{name}="));
            option.push(value);
            ["-o".into(), option]
        };
        let options = [
            option("Dir::State", &state),
            option("Dir::State::status", &places.root.join("var/lib/dpkg/status")),
            option("Dir::Cache", &cache),
            // As root it would otherwise download as a user that can't write here.
            option("APT::Sandbox::User", Path::new("root")),
            option("Acquire::Retries", Path::new("3")),
        ];
        Ok(Apt { program, options: options.into_iter().flatten().collect(), folder })
    }

    /// Downloads these packages and the libraries that they need and the machine lacks.
    fn download(&self, packages: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        self.run(&["update"])?;
        let install = ["install", "--simulate", "--no-install-recommends", "--no-upgrade"];
        let planned = self.run(&[&install[..], packages].concat())?;
        let names: Vec<&str> =
            planned.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).collect();
        let wanted: Vec<&str> = names.into_iter().filter(|name| packages.contains(name) || is_library(name)).collect();
        anyhow::ensure!(!wanted.is_empty(), "apt-get reports {} as installed", packages.join(", "));
        self.run(&[&["download"][..], &wanted].concat())?;
        let files = fs::read_dir(self.folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.program);
        // The output is parsed.
        command.arg("-qq").args(&self.options).args(args).current_dir(self.folder).env("LC_ALL", "C");
        output(&mut command)
    }
}

/// Whether a package has shared libraries, by its name. The C library must be the machine's, and only installation scripts
/// need Perl.
fn is_library(package: &str) -> bool {
    package.starts_with("lib") && !package.starts_with("libc6") && !package.contains("perl")
}
