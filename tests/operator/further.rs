//! Databases beside the first one.

use super::fleet::{Fleet, PASSWORD};
use agent_tenancy::domain::{ident::NamePrefix, migrations::render_bootstrap};
use devkit::{Component, Postgres, TestDatabase, unique};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// A further instance, whose administrator has done his part.
pub struct Further {
    pub name: String,
    pub prefix: String,
    database: TestDatabase,
}

impl Further {
    pub async fn new(server: &Postgres, name: &str) -> anyhow::Result<Self> {
        let database = server.create_database(&unique("further")).await?;
        let digits: String = unique("").chars().filter(char::is_ascii_alphanumeric).rev().take(8).collect();
        let prefix = format!("g{digits}").to_ascii_lowercase();
        let mut connection = PgConnection::connect(&database.superuser_url()).await?;
        let bootstrap = render_bootstrap(&NamePrefix::parse(&prefix)?, PASSWORD)?;
        sqlx::raw_sql(AssertSqlSafe(bootstrap)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(Self { name: name.to_owned(), prefix, database })
    }

    pub fn settings(&self, fleet: &Fleet) -> Value {
        json!({
            "name": self.name, "host": self.database.host, "port": self.database.port, "database": self.database.name,
            "user": format!("{}_operator_a", self.prefix), "passwordFile": fleet.password_file(), "sslMode": "disable",
            "namePrefix": self.prefix,
        })
    }

    /// Tenant ids of its ledger in these states.
    pub async fn ledger(&self, states: &str) -> anyhow::Result<Vec<String>> {
        self.column(format!("SELECT tenant_id FROM agent_tenancy.tenants WHERE state IN ({states}) ORDER BY 1")).await
    }

    /// A column of texts, as the superuser sees it.
    pub async fn column(&self, query: String) -> anyhow::Result<Vec<String>> {
        let mut connection = PgConnection::connect(&self.database.superuser_url()).await?;
        let found = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(found)
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.database.superuser_url()).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Name of a tenant's schema and role in it.
    pub fn schema(&self, tenant: &str) -> String {
        format!("{}_{tenant}", self.prefix)
    }
}

impl Fleet {
    /// The operators started from now on know these further instances.
    pub fn set_instances(&mut self, further: &[Value]) {
        self.set(Component::Operator, "AGENT_TENANCY__DATABASES", json!(further).to_string());
    }
}
