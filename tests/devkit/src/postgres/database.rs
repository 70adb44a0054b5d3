//! One test's database.

use std::{fmt, path::Path};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::Postgres;
use crate::{PgVersion, Places, tools};

/// A database of a single test. It ends with its server; roles belong to the whole server, so name them uniquely.
#[derive(Clone, PartialEq, Eq)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    /// The server's address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    superuser_url: String,
}

impl TestDatabase {
    /// Creates it as the superuser.
    pub(super) async fn create(server: &Postgres, name: &str) -> anyhow::Result<TestDatabase> {
        let mut connection = PgConnection::connect(&server.superuser_url("postgres")).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {}", quote(name)))).execute(&mut connection).await?;
        connection.close().await?;
        Ok(TestDatabase {
            name: name.to_owned(),
            host: server.host().to_owned(),
            port: server.port(),
            superuser_url: server.superuser_url(name),
        })
    }

    /// For the superuser of the server.
    pub fn superuser_url(&self) -> String {
        self.superuser_url.clone()
    }

    /// For another login role. The password must not need escaping in a URL.
    pub fn url(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@{}:{}/{}", self.host, self.port, self.name)
    }

    /// The first column of each row, as the superuser sees it.
    pub async fn column(&self, query: impl Into<String>) -> anyhow::Result<Vec<String>> {
        let mut connection = PgConnection::connect(&self.superuser_url).await?;
        let rows = sqlx::query(AssertSqlSafe(query.into())).fetch_all(&mut connection).await?;
        connection.close().await?;
        rows.iter().map(|row| Ok(row.try_get::<String, _>(0)?)).collect()
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.superuser_url).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Saves it with `pg_dump`, as a custom archive.
    pub async fn dump(&self, version: PgVersion, file: &Path) -> anyhow::Result<()> {
        let args = ["--format=custom".into(), format!("--file={}", file.display()), self.superuser_url()];
        run_tool(version, "pg_dump", args).await
    }

    /// Restores such an archive into it with `pg_restore`.
    pub async fn restore(&self, version: PgVersion, file: &Path) -> anyhow::Result<()> {
        let args = ["--exit-on-error".into(), format!("--dbname={}", self.superuser_url()), file.display().to_string()];
        run_tool(version, "pg_restore", args).await
    }

    /// Drops it, ending every connection to it.
    pub async fn drop_now(&self) -> anyhow::Result<()> {
        let admin = self.superuser_url.rsplit_once('/').map_or(self.superuser_url.as_str(), |(server, _)| server);
        let mut connection = PgConnection::connect(&format!("{admin}/postgres")).await?;
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(&self.name));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// Without the password, which a failed assertion would print.
impl fmt::Debug for TestDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestDatabase({} on {}:{})", self.name, self.host, self.port)
    }
}

async fn run_tool(version: PgVersion, program: &'static str, args: [String; 3]) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        let found = tools::postgres(&Places::from_env()?, Some(version))?;
        let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        tools::output_of(&found.bin.join(program), &args).map(drop)
    })
    .await?
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
