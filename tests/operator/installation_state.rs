//! The state of an installation: conditions, registry, database; and waiting for a state.

use super::installation::{Installation, LONG};
use anyhow::Context as _;
use devkit::eventually;
use kube::{ResourceExt, api::ListParams};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

impl Installation {
    /// A condition of a Tenant: its status and reason.
    pub async fn condition(&self, name: &str, type_: &str) -> anyhow::Result<(String, String)> {
        let tenant = self.tenants.get(name).await?;
        let status = tenant.status.context("no status yet")?;
        let condition = status.conditions.iter().find(|c| c.type_ == type_).context("no such condition yet")?;
        Ok((condition.status.clone(), condition.reason.clone()))
    }

    /// The message of a condition of a Tenant.
    pub async fn message(&self, name: &str, type_: &str) -> anyhow::Result<String> {
        let status = self.tenants.get(name).await?.status.context("no status yet")?;
        let condition = status.conditions.into_iter().find(|c| c.type_ == type_).context("no such condition yet")?;
        Ok(condition.message)
    }

    /// Waits until a condition of a Tenant has this status and reason.
    pub async fn wait_condition(&self, name: &str, type_: &str, status: &str, reason: &str) -> anyhow::Result<()> {
        let wanted = (status.to_owned(), reason.to_owned());
        eventually(LONG, &format!("{name}: {type_}={status} ({reason})"), || async {
            let now = self.condition(name, type_).await?;
            anyhow::ensure!(now == wanted, "it is {now:?}");
            Ok(())
        })
        .await
        .with_context(|| self.last_log_lines())
    }

    /// The last lines of the operators' logs, for the message of a failed test.
    fn last_log_lines(&self) -> String {
        let logs = std::fs::read_dir(self.env.logs()).into_iter().flatten().flatten().map(|file| file.path());
        let own = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("operator-") && name.ends_with(&format!("{}.log", self.database.prefix))
        };
        let mut description = String::new();
        for path in logs.filter(own) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(12).collect();
            description +=
                &format!("{} ends with:\n{}\n", path.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        description
    }

    /// Waits until a Tenant is Ready.
    pub async fn wait_ready(&self, name: &str) -> anyhow::Result<()> {
        self.wait_condition(name, "Ready", "True", "Ready").await
    }

    /// Waits until a Tenant is gone.
    pub async fn wait_gone(&self, name: &str) -> anyhow::Result<()> {
        eventually(LONG, &format!("{name} is gone"), || async {
            anyhow::ensure!(self.tenants.get_opt(name).await?.is_none());
            Ok(())
        })
        .await
    }

    /// Waits until no Tenant is left.
    pub async fn wait_no_tenants(&self) -> anyhow::Result<()> {
        eventually(LONG, "all Tenants are gone", || async {
            let left = self.tenants.list(&ListParams::default()).await?.items.len();
            anyhow::ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await
    }

    /// Names of the registry's entries of one kind.
    pub async fn entries(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let params = ListParams::default().labels(&format!("agent-tenancy.dev/entry={kind}"));
        Ok(self.registry.list(&params).await?.items.iter().map(ResourceExt::name_any).collect())
    }

    /// The content of a registry entry.
    pub async fn entry(&self, name: &str) -> anyhow::Result<Value> {
        let data = self.registry.get(name).await?.data.unwrap_or_default();
        Ok(serde_json::from_slice(&data.get("entry.json").context("no content")?.0)?)
    }

    /// Names of the signing Secrets.
    pub async fn key_secrets(&self) -> anyhow::Result<Vec<String>> {
        let all = self.secrets.list(&ListParams::default().labels("agent-tenancy.dev/tenant-uid")).await?;
        Ok(all.items.iter().map(ResourceExt::name_any).collect())
    }

    /// Tenant ids of the ledger in one state.
    pub async fn ledger(&self, state: &str) -> anyhow::Result<Vec<String>> {
        self.column(format!("SELECT tenant_id FROM agent_tenancy.tenants WHERE state = '{state}' ORDER BY 1")).await
    }

    /// Schemas of tenants.
    pub async fn schemas(&self) -> anyhow::Result<Vec<String>> {
        self.column(format!(
            "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '{}\\_%' ORDER BY 1",
            self.database.prefix
        ))
        .await
    }

    /// Versions of everything that the operator writes.
    pub async fn version_of_all(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut versions = BTreeMap::new();
        for tenant in self.tenants.list(&ListParams::default()).await?.items {
            versions.insert(format!("tenant {}", tenant.name_any()), tenant.resource_version().unwrap_or_default());
        }
        for agent in self.agents.list(&ListParams::default()).await?.items {
            versions.insert(format!("agent {}", agent.name_any()), agent.resource_version().unwrap_or_default());
        }
        for entry in self.registry.list(&ListParams::default()).await?.items {
            versions.insert(format!("entry {}", entry.name_any()), entry.resource_version().unwrap_or_default());
        }
        for secret in self.secrets.list(&ListParams::default()).await?.items {
            versions.insert(format!("secret {}", secret.name_any()), secret.resource_version().unwrap_or_default());
        }
        Ok(versions)
    }
}

/// Waits until the operator writes nothing any more.
pub async fn settle(installation: &Installation) -> anyhow::Result<()> {
    eventually(LONG, "the operator writes nothing", || async {
        let before = installation.version_of_all().await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        anyhow::ensure!(installation.version_of_all().await? == before, "it has written something");
        Ok(())
    })
    .await
}
