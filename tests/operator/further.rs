//! Databases beside the first one.

use super::fleet::{Fleet, PASSWORD};
use devkit::{Component, InstallationDatabase, Postgres};
use serde_json::{Value, json};
use std::ops::Deref;

/// A further instance, prepared by its administrator.
pub struct Further {
    pub name: String,
    database: InstallationDatabase,
}

impl Further {
    pub async fn new(server: &Postgres, name: &str) -> anyhow::Result<Self> {
        let database = InstallationDatabase::bootstrapped(server, PASSWORD).await?;
        Ok(Self { name: name.to_owned(), database })
    }

    pub fn settings(&self, fleet: &Fleet) -> Value {
        self.database.instance_settings(&self.name, &fleet.password_file())
    }

    /// Tenant ids of its ledger in these states.
    pub async fn ledger(&self, states: &str) -> anyhow::Result<Vec<String>> {
        self.column(format!("SELECT tenant_id FROM agent_tenancy.tenants WHERE state IN ({states}) ORDER BY 1")).await
    }
}

impl Deref for Further {
    type Target = InstallationDatabase;

    fn deref(&self) -> &InstallationDatabase {
        &self.database
    }
}

impl Fleet {
    /// The operators started from now on know these further instances.
    pub fn set_instances(&mut self, further: &[Value]) {
        self.set(Component::Operator, "AGENT_TENANCY__DATABASES", json!(further).to_string());
    }
}
