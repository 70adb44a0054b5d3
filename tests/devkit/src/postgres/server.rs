//! A running server: started by this process, or by `devkit run` for the whole test run.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

use super::{
    TestDatabase,
    cluster::{Cluster, SUPERUSER},
};
use crate::{
    PgVersion, Places,
    env_file::{EnvFile, PostgresEntry},
    ports::{check_port, free_port},
    process::Process,
    supervisor::Supervisor,
    tools,
};

/// A server starts within a second or two, except on a busy machine.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// A server on loopback, with a superuser that has a password. Clones are handles to the same server.
#[derive(Clone, Debug)]
pub struct Postgres {
    entry: PostgresEntry,
    own: Option<Arc<Own>>,
}

/// What only the process that started the server has.
#[derive(Debug)]
struct Own {
    cluster: Cluster,
    name: String,
    supervisor: Arc<Supervisor>,
    process: Mutex<Option<Process>>,
}

impl Postgres {
    /// Starts a server for a test that stops or replaces it. It ends with the last handle.
    pub async fn start(version: PgVersion) -> anyhow::Result<Postgres> {
        let supervisor = tokio::task::spawn_blocking(|| Supervisor::start("postgres")).await??;
        Postgres::start_in(&supervisor, Some(version), None).await
    }

    /// The server of that version that all tests of this run share, or else the tests of this process.
    pub async fn shared(version: PgVersion) -> anyhow::Result<Postgres> {
        if let Some(entry) = EnvFile::from_env()?.and_then(|env| env.postgres_of(version.major())) {
            return Ok(Postgres::attach(entry));
        }
        // Locked during the start, so that two tests don't start two servers. Never dropped: the server ends
        // with the process.
        static SERVERS: Mutex<BTreeMap<PgVersion, Postgres>> = Mutex::const_new(BTreeMap::new());
        let mut servers = SERVERS.lock().await;
        if let Some(server) = servers.get(&version) {
            return Ok(server.clone());
        }
        let server = Postgres::start_in(&Supervisor::of_process()?, Some(version), None).await?;
        servers.insert(version, server.clone());
        Ok(server)
    }

    pub(crate) fn attach(entry: PostgresEntry) -> Postgres {
        Postgres { entry, own: None }
    }

    pub(crate) async fn start_in(
        supervisor: &Arc<Supervisor>,
        version: Option<PgVersion>,
        port: Option<u16>,
    ) -> anyhow::Result<Postgres> {
        let password = uuid::Uuid::new_v4().simple().to_string();
        let port = port.map_or_else(free_port, Ok)?;
        let (name, folder) = {
            let id = crate::unique("postgres");
            (format!("postgres-{port}"), supervisor.data().join(id))
        };
        let secret = password.clone();
        // Finding and preparing the server blocks, and may fetch it.
        let (version, cluster) = tokio::task::spawn_blocking(move || {
            let found = tools::postgres(&Places::from_env()?, version)?;
            check_port(port, &format!("Postgres {}", found.version))?;
            anyhow::Ok((found.version, Cluster::create(&found, &folder, &secret)?))
        })
        .await??;
        let own = Own { cluster, name, supervisor: supervisor.clone(), process: Mutex::new(None) };
        let entry = PostgresEntry { major: version.major(), host: "127.0.0.1".into(), port, password };
        let server = Postgres { entry, own: Some(Arc::new(own)) };
        server.start_again().await?;
        Ok(server)
    }

    /// Its major version.
    pub fn version_major(&self) -> u32 {
        self.entry.major
    }

    /// 127.0.0.1.
    pub fn host(&self) -> &str {
        &self.entry.host
    }

    /// Stays the same over a restart.
    pub fn port(&self) -> u16 {
        self.entry.port
    }

    /// Password of the superuser `postgres`.
    pub fn superuser_password(&self) -> &str {
        &self.entry.password
    }

    /// URL of a database for the superuser `postgres`.
    pub fn superuser_url(&self, database: &str) -> String {
        let PostgresEntry { host, port, password, major: _ } = &self.entry;
        format!("postgres://{SUPERUSER}:{password}@{host}:{port}/{database}")
    }

    /// Creates a database; see [`crate::unique`] for its name.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<TestDatabase> {
        TestDatabase::create(self, name).await.with_context(|| format!("the database {name} can't be created"))
    }

    /// SIGKILL to the server process, like a crash; its backends notice and end.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.end(Signal::KILL).await
    }

    /// "Immediate shutdown" (SIGQUIT): connections break off; the next start recovers from the log.
    pub async fn stop_immediate(&self) -> anyhow::Result<()> {
        self.end(Signal::QUIT).await
    }

    /// "Fast shutdown" (SIGINT): transactions are rolled back, sessions ended in order.
    pub async fn stop_fast(&self) -> anyhow::Result<()> {
        self.end(Signal::INT).await
    }

    /// Starts the stopped server with the same port and data, and waits until it answers.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        let own = self.own()?;
        let mut process = own.process.lock().await;
        if process.as_ref().is_some_and(|process| process.exit_status().is_none()) {
            return Ok(());
        }
        let mut attempts = 0;
        let started = loop {
            match self.start_once(own).await {
                Ok(started) => break started,
                // Backends of a killed server need a moment to notice; until then its memory block is in use.
                Err(error) if attempts < 20 && format!("{error:#}").contains("pre-existing shared memory block") => {
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(error) => {
                    own.supervisor.keep_logs();
                    return Err(error);
                }
            }
        };
        *process = Some(started);
        Ok(())
    }

    /// Stops the server and starts an empty one on the same port with the same superuser; the real cluster is kept.
    pub async fn replace_with_empty_cluster(&self) -> anyhow::Result<()> {
        self.stop_fast().await?;
        let cluster = self.own()?.cluster.clone();
        tokio::task::spawn_blocking(move || cluster.put_aside()).await??;
        self.start_again().await
    }

    /// Puts the real cluster back after [`Postgres::replace_with_empty_cluster`].
    pub async fn put_back_cluster(&self) -> anyhow::Result<()> {
        self.stop_fast().await?;
        let cluster = self.own()?.cluster.clone();
        tokio::task::spawn_blocking(move || cluster.put_back()).await??;
        self.start_again().await
    }

    /// Stops this server, and starts one of a newer version on the same port, with its data by `pg_upgrade`.
    pub async fn upgrade(&self, version: PgVersion) -> anyhow::Result<Postgres> {
        self.stop_fast().await?;
        let own = self.own()?;
        let (supervisor, old) = (own.supervisor.clone(), own.cluster.clone());
        let (home, password) = (supervisor.data().join(crate::unique("postgres")), self.entry.password.clone());
        let (version, cluster) = tokio::task::spawn_blocking(move || {
            let found = tools::postgres(&Places::from_env()?, Some(version))?;
            let cluster = Cluster::create(&found, &home, &password)?;
            cluster.upgrade_from(&old)?;
            anyhow::Ok((found.version, cluster))
        })
        .await??;
        let entry = PostgresEntry { major: version.major(), ..self.entry.clone() };
        let own = Own { cluster, name: format!("{}-upgraded", own.name), supervisor, process: Mutex::new(None) };
        let upgraded = Postgres { entry, own: Some(Arc::new(own)) };
        upgraded.start_again().await?;
        Ok(upgraded)
    }

    /// Restarts the server as a standby, as a failover does to the old primary: it answers, and takes no writes.
    pub async fn demote(&self) -> anyhow::Result<()> {
        self.stop_fast().await?;
        self.own()?.cluster.make_standby()?;
        self.start_again().await
    }

    /// Process id of the server, while it runs.
    pub(crate) async fn pid(&self) -> anyhow::Result<Option<u32>> {
        Ok(self.own()?.process.lock().await.as_ref().map(Process::pid))
    }

    /// What the server has logged since its last start.
    pub async fn log_text(&self) -> anyhow::Result<String> {
        Ok(self.own()?.process.lock().await.as_ref().map(Process::log).unwrap_or_default())
    }

    pub(crate) fn entry(&self) -> PostgresEntry {
        self.entry.clone()
    }

    async fn start_once(&self, own: &Own) -> anyhow::Result<Process> {
        let log = own.supervisor.logs().join(format!("{}.log", own.name));
        let started = Process::spawn_in(&own.supervisor, own.cluster.server(&own.name, self.port()).log(log))?;
        let ready = started.wait_ready(START, || async {
            let mut connection = PgConnection::connect(&self.superuser_url("postgres")).await?;
            connection.ping().await?;
            Ok(connection.close().await?)
        });
        ready.await?;
        Ok(started)
    }

    async fn end(&self, signal: Signal) -> anyhow::Result<()> {
        let own = self.own()?;
        let process = own.process.lock().await.take();
        if let Some(process) = process {
            // To the server process alone: it ends its backends itself.
            process.signal(signal);
            process.wait_exit(STOP).await?;
        }
        Ok(())
    }

    fn own(&self) -> anyhow::Result<&Own> {
        let own = self.own.as_deref();
        own.context("this server belongs to the whole test run; start a separate one to stop or replace it")
    }
}
