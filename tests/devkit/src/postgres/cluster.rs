//! The files of one server: its data folder, made by `initdb`, and the user that owns it.
//!
//! The server refuses to run as root. Where this process is root, the server runs as the user `postgres` if there is one,
//! else as `nobody`.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    Places,
    process::Spec,
    tools::{self, PgVersion, PostgresTools, output_of},
};

/// Name of the superuser of every test server.
pub(super) const SUPERUSER: &str = "postgres";

/// Programs and folders of one server.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    version: PgVersion,
    bin: PathBuf,
    folder: PathBuf,
    password: String,
    user: Option<User>,
}

/// The user that a server runs as when this process is root.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// The program that changes the user.
    pub(crate) setpriv: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Its arguments before the program to run.
    pub(crate) fn arguments(&self) -> [OsString; 3] {
        [format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()].map(Into::into)
    }
}

impl Cluster {
    /// Makes the data folder in `folder`. Blocks for about a second.
    pub(super) fn create(tools: &PostgresTools, folder: &Path, password: &str) -> anyhow::Result<Cluster> {
        fs::create_dir_all(folder)?;
        let user = user()?;
        let mut bin = tools.bin.clone();
        if let Some(user) = &user {
            chown(folder, Some(user.uid), Some(user.gid))?;
            if !reachable(&bin) {
                let server = bin.parent().with_context(|| format!("{} is no folder of a server", bin.display()))?;
                bin = copy(server, &folder.join("server"))?.join("bin");
            }
        }
        let cluster =
            Cluster { version: tools.version, bin, folder: folder.to_owned(), password: password.to_owned(), user };
        cluster.init()?;
        Ok(cluster)
    }

    /// Puts an empty cluster with the same superuser in place of the present one, which is kept.
    pub(super) fn put_aside(&self) -> anyhow::Result<()> {
        let aside = self.aside();
        anyhow::ensure!(!aside.exists(), "the real cluster has already been put aside");
        fs::rename(self.data(), &aside)?;
        self.init()
    }

    /// Undoes [`Cluster::put_aside`].
    pub(super) fn put_back(&self) -> anyhow::Result<()> {
        let aside = self.aside();
        anyhow::ensure!(aside.exists(), "no cluster has been put aside");
        fs::remove_dir_all(self.data())?;
        Ok(fs::rename(aside, self.data())?)
    }

    /// Runs `pg_upgrade` from a cluster of an older version with the same password into this new one. Both servers are stopped.
    pub(super) fn upgrade_from(&self, old: &Cluster) -> anyhow::Result<()> {
        let (program, args) = self.command("pg_upgrade");
        let result = std::process::Command::new(program)
            .args(args)
            .args([OsString::from("-b"), old.bin.clone().into(), "-B".into(), self.bin.clone().into()])
            .args([OsString::from("-d"), old.data().into(), "-D".into(), self.data().into()])
            .args([OsString::from("-U"), SUPERUSER.into(), "-s".into(), self.folder.clone().into()])
            .current_dir(&self.folder)
            .env("PGPASSWORD", &self.password)
            .output()
            .context("pg_upgrade can't be run")?;
        anyhow::ensure!(result.status.success(), "pg_upgrade failed: {}", String::from_utf8_lossy(&result.stdout));
        Ok(())
    }

    /// Makes the next start one of a standby: in recovery until it is promoted.
    pub(super) fn make_standby(&self) -> anyhow::Result<()> {
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "")?;
        if let Some(user) = &self.user {
            chown(&signal, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn aside(&self) -> PathBuf {
        self.folder.join("aside")
    }

    fn init(&self) -> anyhow::Result<()> {
        let password_file = self.folder.join("password");
        fs::write(&password_file, &self.password)?;
        if let Some(user) = &self.user {
            chown(&password_file, Some(user.uid), Some(user.gid))?;
        }
        let (program, mut args) = self.command("initdb");
        args.extend(["-D".into(), self.data().into(), format!("--pwfile={}", password_file.display()).into()]);
        args.push(format!("--username={SUPERUSER}").into());
        // A fixed locale, so that every run sorts alike.
        // Before 18 there are none unless asked for, and pg_upgrade needs the same on both sides.
        if self.version.major() >= 18 {
            args.push("--no-data-checksums".into());
        }
        args.extend(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"].map(Into::into));
        let args: Vec<_> = args.iter().map(|arg| arg.as_os_str()).collect();
        let result = output_of(&program, &args).context("Postgres's data folder can't be made");
        fs::remove_file(&password_file)?;
        result.map(drop)
    }

    /// How the server is started. Everything is durable against a crash of the server, nothing against one of the
    /// machine: `fsync` is off, but `synchronous_commit` stays on, or a killed server would lose commits.
    pub(super) fn server(&self, name: &str, port: u16) -> Spec {
        let (program, args) = self.command("postgres");
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "max_connections=300".into(),
            "fsync=off".into(),
            "full_page_writes=off".into(),
            "logging_collector=off".into(),
            "log_line_prefix=%m %d %u [%p] ".into(),
            "timezone=UTC".into(),
        ];
        let spec = Spec::new(name, program).args(args).arg("-D").arg(self.data());
        settings.iter().fold(spec.stage(crate::ShutdownStage::Database).dir(&self.folder), |spec, setting| {
            spec.arg("-c").arg(setting)
        })
    }

    /// Program and first arguments that run one of the server's programs as the right user.
    fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        let program = self.bin.join(program);
        match &self.user {
            None => (program, Vec::new()),
            Some(user) => {
                let args = user.arguments().into_iter().chain([program.into()]);
                (user.setpriv.clone(), args.collect())
            }
        }
    }
}

/// The user to run a server as; `None` unless this process is root.
pub(crate) fn user() -> anyhow::Result<Option<User>> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let setpriv = tools::setpriv(&Places::from_env()?)?;
    let passwd = fs::read_to_string("/etc/passwd").context("the machine's users can't be read")?;
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    let (uid, gid) = ids("postgres").or_else(|| ids("nobody")).context(
        "a server refuses to run as root, and the machine has neither a user postgres nor nobody to run it as",
    )?;
    Ok(Some(User { setpriv, uid, gid }))
}

/// Whether every user can reach that folder; root's own folder, where a cache may be, is usually closed.
pub(crate) fn reachable(dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    dir.ancestors().all(|part| part.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0))
}

/// Copies a folder of programs (a server has some 40 MB) to where every user can reach them.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    output_of("cp".as_ref(), &["-R".as_ref(), from.as_os_str(), to.as_os_str()])
        .with_context(|| format!("{} can't be copied", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(to.to_owned())
}
