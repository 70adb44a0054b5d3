//! The setup of the tests of plans: an installation, and ServiceAccounts with different permissions.

use super::{
    installation::{Installation, LONG},
    users::plugin_with,
};
use devkit::{CommandOutput, Environment, Postgres, Request, RunningOperator, RunningReplica, eventually};
use serde_json::json;
use std::collections::BTreeMap;

/// A running installation, and ServiceAccounts with different permissions on Tenants.
pub struct DryRunSetup {
    pub installation: Installation,
    pub namespace: String,
    pub operator: RunningOperator,
    _replica: RunningReplica,
}

impl Installation {
    /// Creates a ServiceAccount in the Tenants' namespace that may use these verbs on Tenants; only on `names`, if any are given.
    /// Allows a ServiceAccount of the Tenants' namespace one verb on the Tenants of all namespaces.
    pub async fn allow_everywhere(&self, account: &str, verb: &str) -> anyhow::Result<()> {
        let (namespace, api) = (&self.tenants_namespace, "rbac.authorization.k8s.io/v1");
        let metadata = json!({ "name": format!("{namespace}-{account}-{verb}") });
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"] });
        let rule = json!({ "apiGroups": ["agent-tenancy.dev"], "resources": ["tenants"], "verbs": [verb] });
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": api, "kind": "ClusterRole", "metadata": metadata, "rules": [rule] },
            { "apiVersion": api, "kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": role,
              "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }] },
        ] });
        self.env.kubectl_with(&["apply", "-f", "-"], &objects.to_string()).await?.ok().map(drop)
    }

    pub async fn account(&self, account: &str, verbs: &[&str], names: &[&str]) -> anyhow::Result<()> {
        let namespace = &self.tenants_namespace;
        let api = "rbac.authorization.k8s.io/v1";
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account });
        let rule = json!({ "apiGroups": ["agent-tenancy.dev"], "resources": ["tenants"], "verbs": verbs,
                           "resourceNames": names });
        let rules = if verbs.is_empty() { json!([]) } else { json!([rule]) };
        let metadata = json!({ "name": account });
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata },
            { "apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules },
            { "apiVersion": api, "kind": "RoleBinding", "metadata": metadata, "roleRef": role,
              "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }] },
        ] });
        self.env.kubectl_with(&["apply", "-n", namespace, "-f", "-"], &objects.to_string()).await?.ok().map(drop)
    }
}

/// Runs the plugin in the Tenants' namespace, with this standard input.
pub async fn plugin_in(installation: &Installation, args: &[&str], input: &str) -> anyhow::Result<CommandOutput> {
    plugin_with(&[args, &["-n", &installation.tenants_namespace]].concat(), input).await
}

impl DryRunSetup {
    pub async fn new(server: &Postgres) -> anyhow::Result<Self> {
        let installation = Installation::on(Environment::shared().await?, server).await?;
        let replica = installation.replica().await?;
        let operator = installation.operator("one").await?;
        let namespace = installation.tenants_namespace.clone();
        for (account, verbs) in [
            ("planner", ["get", "create", "update", "delete"].as_slice()),
            ("viewer", ["get"].as_slice()),
            ("nobody", [].as_slice()),
        ] {
            installation.account(account, verbs, &[]).await?;
        }
        installation.agent("support", "You help.").await?;
        eventually(LONG, "the AgentConfig is published", || async {
            anyhow::ensure!(!installation.entries("agent").await?.is_empty());
            Ok(())
        })
        .await?;
        Ok(Self { installation, namespace, operator, _replica: replica })
    }

    pub fn url(&self) -> anyhow::Result<&str> {
        self.operator.admin_url()
    }

    /// `kubectl tenant plan` in the Tenants' namespace.
    pub async fn plan(&self, args: &[&str], input: &str) -> anyhow::Result<CommandOutput> {
        plugin_in(&self.installation, &[&["plan"], args].concat(), input).await
    }

    /// As `planner`, at the operator's URL.
    pub async fn plan_as_planner(&self, args: &[&str], input: &str) -> anyhow::Result<CommandOutput> {
        let url = self.url()?;
        self.plan(&[args, &["--server", url, "--as-service-account", "planner"]].concat(), input).await
    }

    /// A token of an account, for these audiences.
    pub async fn token(&self, account: &str, audience: Option<&str>) -> anyhow::Result<String> {
        let mut args = vec!["create", "token", account, "-n", &self.namespace];
        args.extend(audience.iter().flat_map(|audience| ["--audience", audience]));
        Ok(self.installation.env.kubectl(&args).await?.ok()?.trim().to_owned())
    }

    /// Everything that a plan must not change, in the cluster and in the database.
    pub async fn world(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut world = self.installation.version_of_all().await?;
        let prefix = &self.installation.database.prefix;
        for (what, query) in [
            ("roles", format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{prefix}\\_%' ORDER BY 1")),
            ("ledger", "SELECT t::text FROM agent_tenancy.tenants t ORDER BY 1".to_owned()),
            ("cells", "SELECT c::text FROM agent_tenancy.cells c ORDER BY 1".to_owned()),
            ("schemas", "SELECT nspname::text FROM pg_namespace ORDER BY 1".to_owned()),
        ] {
            world.insert(what.to_owned(), self.installation.column(query).await?.join("\n"));
        }
        Ok(world)
    }

    /// Writes of the operator to the API server so far, without the leader's Lease and reviews.
    pub fn writes(&self) -> anyhow::Result<Vec<Request>> {
        let mut requests = self.installation.env.requests_from(self.installation.release.namespace())?;
        let operator = self.installation.release.account(devkit::Component::Operator)?;
        requests.retain(|r| {
            r.account == operator
                && !matches!(r.verb.as_str(), "get" | "list" | "watch")
                && !matches!(r.resource.as_str(), "leases" | "tokenreviews" | "subjectaccessreviews")
        });
        Ok(requests)
    }
}
