//! Line endings: checksums of applied SQL files and keys of the cache cover bytes, so every clone has the same ones.

use std::{fs, path::Path, process::Command};

use super::source::sources;

/// Runs git in that folder, independent of the user's configuration and of a repository around it.
fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=test", "-c", "user.email=test@example.com"]).args(args).current_dir(folder);
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")]);
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    let output = command.output().expect("git is needed");
    assert!(output.status.success(), "git {args:?}: {output:?}");
}

#[test]
fn a_clone_that_converts_line_endings_has_the_same_bytes() {
    let (top, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    let (origin, clone) = (folder.path().join("origin"), folder.path().join("clone"));
    fs::create_dir(&origin).unwrap();
    let files = ["config/migrations/0001_base.sql", "config/sql/bootstrap.sql", "tests/controlplane/go.mod"];
    for file in files.iter().chain(&[".gitattributes"]) {
        let target = origin.join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(top.join(file), target).unwrap();
    }
    git(&origin, &["init", "-q"]);
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-q", "-m", "files"]);
    git(folder.path(), &["clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "origin", "clone"]);
    for file in files {
        assert_eq!(fs::read(clone.join(file)).unwrap(), fs::read(top.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn no_file_has_carriage_returns() {
    let folders = ["src", "tests", "config", "crds", "charts", "Makefile", "README.md", "Cargo.toml", ".gitattributes"];
    let sources = sources(&folders, |_| true);
    let found: Vec<&str> =
        sources.iter().filter(|file| file.text.contains('\r')).map(|file| file.path.as_str()).collect();
    assert!(found.is_empty(), "{found:?}");
}
