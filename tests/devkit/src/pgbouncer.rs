//! A real PgBouncer in transaction mode in front of one of the servers. It asks the database for passwords, as
//! `config/sql/pgbouncer.sql` prepares it.

use std::{fs, os::unix::fs::chown, time::Duration};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    Places,
    ports::free_port,
    postgres::{TestDatabase, User, copy, reachable, user},
    process::{Process, Spec},
    supervisor::Supervisor,
    tools,
};

/// PgBouncer starts at once, except on a busy machine.
const START: Duration = Duration::from_secs(30);

/// What an administrator runs in the database.
const SQL: &str = include_str!("../../../config/sql/pgbouncer.sql");

/// A running PgBouncer, for one installation's logins in one database. It ends when it is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: u16,
}

impl PgBouncer {
    /// Prepares the database for the installation with this name prefix, and starts one with at most so many server
    /// connections for each login.
    pub async fn start(database: &TestDatabase, prefix: &str, pool_size: u32) -> anyhow::Result<PgBouncer> {
        let password = uuid::Uuid::new_v4().simple().to_string();
        let setting = |name: &str, value: &str| format!("SET agent_tenancy.{name} = '{value}';\n");
        let text = setting("prefix", prefix) + &setting("pgbouncer_password", &password) + SQL;
        let mut admin = PgConnection::connect(&database.superuser_url()).await?;
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut admin).await.context("pgbouncer.sql failed")?;
        admin.close().await?;

        let (port, auth) = (free_port()?, format!("{prefix}_pgbouncer_auth"));
        let (host, server_port) = (&database.host, database.port);
        let config = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = users.txt\n\
             auth_user = {auth}\nauth_query = SELECT usename, passwd FROM {auth}.lookup($1)\n\
             pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 200\n\
             server_idle_timeout = 2\nlog_connections = 0\nlog_disconnections = 0\n"
        );
        let users = format!("\"{auth}\" \"{password}\"\n");
        let spec = tokio::task::spawn_blocking(move || prepare(port, &config, &users)).await??;
        let process = Process::spawn_in(&Supervisor::of_process()?, spec)?;
        let listening = process
            .wait_ready(START, || async { Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop)?) });
        listening.await?;
        Ok(PgBouncer { process, port })
    }

    /// On 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Writes its files into a folder of its own. Like Postgres, it refuses to run as root.
fn prepare(port: u16, config: &str, users: &str) -> anyhow::Result<Spec> {
    let places = Places::from_env()?;
    let mut program = tools::pgbouncer(&places)?;
    let folder = Supervisor::of_process()?.data().join(crate::unique("pgbouncer"));
    fs::create_dir_all(&folder)?;
    let user = user()?;
    if user.is_some() && program.starts_with(&places.cache) && !reachable(&program) {
        // The folder of the package: root's cache is closed to others.
        let package = program.ancestors().nth(2).context("pgbouncer is in no folder of a package")?;
        program = copy(package, &folder.join("package"))?.join("bin/pgbouncer");
    }
    for (file, text) in [("pgbouncer.ini", config), ("users.txt", users)] {
        fs::write(folder.join(file), text)?;
        if let Some(User { uid, gid, .. }) = &user {
            chown(folder.join(file), Some(*uid), Some(*gid))?;
        }
    }
    let name = format!("pgbouncer-{port}");
    let spec = match &user {
        None => Spec::new(name, program),
        Some(user) => Spec::new(name, &user.setpriv).args(user.arguments()).arg(program),
    };
    Ok(spec.arg("pgbouncer.ini").dir(folder))
}
