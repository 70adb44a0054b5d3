//! The database of an installation, as its administrator prepares it.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{Postgres, TestDatabase, unique};

/// What an administrator runs in the database.
const BOOTSTRAP: &str = include_str!("../../../../config/sql/bootstrap.sql");

/// Password of every administrator.
const ADMINISTRATOR_PASSWORD: &str = "administrator-password";

/// A database of one test's own, the prefix of its roles and schemas, and the operator's password. It belongs to an
/// administrator who is no superuser, as on a managed server. Dereferences to the database itself.
#[derive(Clone, Debug)]
pub struct InstallationDatabase {
    database: TestDatabase,
    /// Prefix of every role and schema, unique on the server.
    pub prefix: String,
    password: String,
}

impl InstallationDatabase {
    /// Creates a database on that server, in which nothing is prepared yet: the operator can't even log in.
    pub async fn create(server: &Postgres, password: &str) -> anyhow::Result<InstallationDatabase> {
        let database = server.create_database(&unique("installation")).await?;
        let digits: String = unique("").chars().filter(char::is_ascii_alphanumeric).collect();
        let created = InstallationDatabase { database, prefix: format!("t{digits}"), password: password.to_owned() };
        created.give_to_administrator().await?;
        Ok(created)
    }

    /// Creates the administrator, and makes it the owner of the database.
    async fn give_to_administrator(&self) -> anyhow::Result<()> {
        let (administrator, database) = (self.administrator(), &self.name);
        let statements = format!(
            "CREATE ROLE {administrator} LOGIN CREATEROLE PASSWORD '{ADMINISTRATOR_PASSWORD}';\n\
             ALTER DATABASE \"{database}\" OWNER TO {administrator};"
        );
        self.execute(&statements).await.context("the database can't be given to its administrator")
    }

    /// The database's owner, with CREATEROLE and no superuser. Needs no quoting.
    pub fn administrator(&self) -> String {
        format!("admin_{}", self.prefix)
    }

    /// Where the administrator connects, with its password.
    pub fn administrator_url(&self) -> String {
        self.url(&self.administrator(), ADMINISTRATOR_PASSWORD)
    }

    /// A database that is there, prepared for that prefix and password.
    pub(crate) fn existing(database: TestDatabase, prefix: &str, password: &str) -> InstallationDatabase {
        InstallationDatabase { database, prefix: prefix.to_owned(), password: password.to_owned() }
    }

    /// A database of one's own, with [`InstallationDatabase::bootstrap`] done.
    pub async fn bootstrapped(server: &Postgres, password: &str) -> anyhow::Result<InstallationDatabase> {
        let database = InstallationDatabase::create(server, password).await?;
        database.bootstrap().await?;
        Ok(database)
    }

    /// Runs `config/sql/bootstrap.sql`, which makes the operator's roles, as the database's owner.
    pub async fn bootstrap(&self) -> anyhow::Result<()> {
        self.execute_as_administrator(&self.bootstrap_text()).await.context("bootstrap.sql failed")
    }

    /// Runs statements as the database's owner.
    pub async fn execute_as_administrator(&self, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.administrator_url()).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// `config/sql/bootstrap.sql` with the settings of this installation.
    pub fn bootstrap_text(&self) -> String {
        let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let InstallationDatabase { prefix, password, .. } = self;
        let settings = format!(
            "SET agent_tenancy.prefix = {};\nSET agent_tenancy.operator_password = {};\n",
            quote(prefix),
            quote(password)
        );
        settings + BOOTSTRAP
    }

    /// Creates the database again, under the same name and bootstrapped, on a server that has lost everything.
    pub async fn create_again(&self, server: &Postgres) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&server.superuser_url("postgres")).await?;
        let create = format!("CREATE DATABASE \"{}\"", self.name);
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        connection.close().await?;
        self.give_to_administrator().await?;
        self.bootstrap().await
    }

    /// The login that the bootstrap file gives the password to.
    pub fn operator_login(&self) -> String {
        format!("{}_operator_a", self.prefix)
    }

    /// The operator's password.
    pub fn operator_password(&self) -> &str {
        &self.password
    }

    /// Where the operator connects, with its password.
    pub fn operator_url(&self) -> String {
        self.url(&self.operator_login(), &self.password)
    }

    /// Name of a tenant's schema and role, or of another role of the installation.
    pub fn schema(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// The operator's settings for this database as an instance of that name.
    pub fn instance_settings(&self, name: &str, password_file: &Path) -> Value {
        json!({
            "name": name, "host": self.host, "port": self.port, "database": self.name,
            "user": self.operator_login(), "passwordFile": password_file, "sslMode": "disable",
            "namePrefix": self.prefix,
        })
    }
}

impl Deref for InstallationDatabase {
    type Target = TestDatabase;

    fn deref(&self) -> &TestDatabase {
        &self.database
    }
}

impl DerefMut for InstallationDatabase {
    fn deref_mut(&mut self) -> &mut TestDatabase {
        &mut self.database
    }
}
