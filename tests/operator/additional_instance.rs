//! Database instances besides the main one.

use super::installation::{Installation, PASSWORD};
use devkit::{Component, InstallationDatabase, Postgres};
use serde_json::{Value, json};
use std::ops::Deref;

/// An additional instance with a prepared database.
pub struct AdditionalInstance {
    pub name: String,
    database: InstallationDatabase,
}

impl AdditionalInstance {
    pub async fn new(server: &Postgres, name: &str) -> anyhow::Result<Self> {
        let database = InstallationDatabase::bootstrapped(server, PASSWORD).await?;
        Ok(Self { name: name.to_owned(), database })
    }

    pub fn settings(&self, installation: &Installation) -> Value {
        self.database.instance_settings(&self.name, &installation.password_file())
    }

    /// Tenant ids in its ledger in these states.
    pub async fn ledger(&self, states: &str) -> anyhow::Result<Vec<String>> {
        self.column(format!("SELECT tenant_id FROM agent_tenancy.tenants WHERE state IN ({states}) ORDER BY 1")).await
    }
}

impl Deref for AdditionalInstance {
    type Target = InstallationDatabase;

    fn deref(&self) -> &InstallationDatabase {
        &self.database
    }
}

impl Installation {
    /// Operators started from now on know these additional instances.
    pub fn set_instances(&mut self, additional: &[Value]) {
        self.set(Component::Operator, "AGENT_TENANCY__DATABASES", json!(additional).to_string());
    }
}
