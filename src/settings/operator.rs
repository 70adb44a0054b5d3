//! Settings of the operator. `config/operator.yaml` has each of them with its default and a comment.

use super::{
    LogSettings, Settings,
    database::{InstanceSettings, SslMode},
};
use crate::domain::{ident::NamePrefix, migrations::TENANT_VERSION};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Settings of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorSettings {
    /// Id of this cluster in the ledger; empty: the UID of the namespace `kube-system`.
    pub cluster_id: String,
    /// Ids of lost clusters that this one replaces: Tenants of the same namespace, name and tenant id take over their data.
    pub previous_cluster_ids: Vec<String>,
    /// Minimum age of the last heartbeat of such a cluster before its tenants are taken over, in seconds. A leader writes
    /// ten heartbeats to the database in that time.
    pub cluster_heartbeat_timeout_seconds: u64,
    /// Namespaces of the managed Tenants and AgentConfigs; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Namespace of the registry, which contains nothing else.
    pub registry_namespace: String,
    /// The election of a leader.
    pub leader_election: LeaderSettings,
    /// How the replicas of the agent API are found.
    pub agent_api: AgentApiReplicas,
    /// The database: the first instance.
    pub database: InstanceSettings,
    /// More instances.
    pub databases: Vec<InstanceSettings>,
    /// The rollout of migrations.
    pub migrations: MigrationSettings,
    /// Objects that are reconciled at the same time.
    pub concurrency: usize,
    /// Interval of the periodic reconcile of each object, in seconds (±10 %).
    pub resync_seconds: u64,
    /// Interval of the check for replaced credentials of providers, in seconds. It is longer if there are many: at most ten
    /// requests a second.
    pub credential_check_seconds: u64,
    /// The API server is asked to end a watch after this time, in seconds. A watch that receives nothing for 5 s longer is
    /// restarted.
    pub watch_seconds: u32,
    /// How long a deletion waits for a replica that does not acknowledge, and for open transactions, in seconds.
    pub ack_timeout_seconds: u64,
    /// How long an issuer of tokens may still use a rotated key, in seconds: the key verifies that much longer.
    pub signer_grace_seconds: u64,
    /// Address of health and metrics.
    pub http_address: SocketAddr,
    /// The admin API, for `kubectl tenant plan` and `kubectl tenant takeover`.
    pub admin_api: AdminApiSettings,
    /// Logs.
    pub log: LogSettings,
}

/// The rollout of migrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationSettings {
    /// Version that tenants are migrated to; `None`: the newest version of this program.
    pub version: Option<i32>,
    /// ConfigMap in the operator's namespace with custom migrations; empty: none.
    pub config_map: String,
    /// Tenants that are migrated first, as `namespace/name`.
    pub canaries: Vec<String>,
    /// Minimum number of canaries.
    pub canary_count: usize,
    /// Pause after the last canary, in seconds.
    pub hold_seconds: u64,
    /// Tenants that are migrated at the same time.
    pub parallel: usize,
    /// Failures that the rollout tolerates. It halts with one more, and at the first failure of a canary.
    pub max_failures: usize,
}

/// The admin API, for `kubectl tenant plan` and `kubectl tenant takeover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminApiSettings {
    /// Its address; `None`: disabled.
    pub http_address: Option<SocketAddr>,
    /// Accepted audiences of tokens; empty: the API server's own audience, so that its users' tokens are accepted. The
    /// admin API uses plain HTTP: put TLS in front of it then.
    pub audiences: Vec<String>,
}

/// The election of a leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaderSettings {
    /// Namespace of the Lease; empty: the Pod's (variable `POD_NAMESPACE`).
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// How long the Lease is valid without renewal, in seconds.
    pub lease_seconds: u64,
    /// How often the leader renews the Lease, in seconds.
    pub renew_seconds: u64,
    /// Outside a cluster: file with this operator's identity, locked while it runs, so that a restarted operator takes its
    /// Lease at once. Without it, and without the variable `POD_UID`, each start has a new identity.
    pub identity_file: Option<PathBuf>,
}

/// How the replicas of the agent API are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentApiReplicas {
    /// What counts as a replica.
    pub replica_source: ReplicaSource,
    /// Namespace of the replicas' Pods and Leases; empty: the operator's own.
    pub namespace: String,
    /// Label selector of the Pods.
    pub pod_selector: String,
    /// There are intentionally no replicas: nothing waits for one.
    pub none_wanted: bool,
}

/// What counts as a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaSource {
    /// A Pod that matches the selector.
    Pods,
    /// A fresh acknowledgement Lease: for an agent API outside the cluster.
    Leases,
}

impl Default for OperatorSettings {
    fn default() -> Self {
        Self {
            cluster_id: String::new(),
            previous_cluster_ids: Vec::new(),
            cluster_heartbeat_timeout_seconds: 600,
            watch_namespaces: Vec::new(),
            registry_namespace: "agent-tenancy-registry".to_owned(),
            leader_election: LeaderSettings {
                namespace: String::new(),
                name: "agent-tenancy-operator".to_owned(),
                lease_seconds: 15,
                renew_seconds: 3,
                identity_file: None,
            },
            agent_api: AgentApiReplicas {
                replica_source: ReplicaSource::Pods,
                namespace: String::new(),
                pod_selector: "app.kubernetes.io/component=agent-api".to_owned(),
                none_wanted: false,
            },
            database: InstanceSettings {
                name: "main".to_owned(),
                host: "localhost".to_owned(),
                port: 5432,
                database: "agents".to_owned(),
                user: "at_operator_a".to_owned(),
                password_file: None,
                password_env: None,
                ssl_mode: SslMode::VerifyFull,
                ssl_root_cert_file: None,
                name_prefix: NamePrefix::standard(),
                max_connections: 8,
                accepts_new_tenants: true,
                tenants_per_cell: 500,
                archive_seconds: 2_592_000,
                connect_timeout_seconds: 5,
                statement_timeout_seconds: 30,
                lock_timeout_seconds: 5,
                migration_timeout_seconds: 600,
                drift_seconds: 300,
                login_rotation_seconds: 2_592_000,
                agent_api_host: None,
                agent_api_port: None,
                lost_database_id: None,
            },
            databases: Vec::new(),
            migrations: MigrationSettings {
                version: None,
                config_map: String::new(),
                canaries: Vec::new(),
                canary_count: 1,
                hold_seconds: 60,
                parallel: 4,
                max_failures: 0,
            },
            concurrency: 8,
            resync_seconds: 600,
            credential_check_seconds: 30,
            watch_seconds: 55,
            ack_timeout_seconds: 60,
            signer_grace_seconds: 300,
            http_address: SocketAddr::from(([0, 0, 0, 0], 8081)),
            admin_api: AdminApiSettings { http_address: None, audiences: vec!["agent-tenancy.dev/plan".to_owned()] },
            log: LogSettings::default(),
        }
    }
}

impl Settings for OperatorSettings {
    const RENAMED: &'static [(&'static str, &'static str)] =
        &[("clusterSilenceSeconds", "clusterHeartbeatTimeoutSeconds"), ("plan", "adminApi")];

    fn check(&self) -> Result<(), String> {
        let within = |path: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{path}: must be from {min} to {max}")) }
        };
        let leader = &self.leader_election;
        within("concurrency", self.concurrency as u64, 1, 256)?;
        within("resyncSeconds", self.resync_seconds, 10, 86_400)?;
        within("credentialCheckSeconds", self.credential_check_seconds, 1, 86_400)?;
        within("watchSeconds", self.watch_seconds.into(), 1, 290)?;
        within("ackTimeoutSeconds", self.ack_timeout_seconds, 1, 3600)?;
        within("signerGraceSeconds", self.signer_grace_seconds, 0, 86_400)?;
        within("clusterHeartbeatTimeoutSeconds", self.cluster_heartbeat_timeout_seconds, 10, 604_800)?;
        if let Some(at) = self.previous_cluster_ids.iter().position(|id| id.is_empty() || id.len() > 253) {
            return Err(format!("previousClusterIds[{at}]: must be an id of 1 to 253 characters"));
        }
        if self.previous_cluster_ids.contains(&self.cluster_id) {
            return Err("previousClusterIds: must not contain the id of this cluster".to_owned());
        }
        within("leaderElection.leaseSeconds", leader.lease_seconds, 8, 300)?;
        within("leaderElection.renewSeconds", leader.renew_seconds, 1, leader.lease_seconds / 3)?;
        let migrations = &self.migrations;
        let version = u64::try_from(migrations.version.unwrap_or(TENANT_VERSION)).unwrap_or_default();
        within("migrations.version", version, 1, TENANT_VERSION.unsigned_abs().into())?;
        within("migrations.canaryCount", migrations.canary_count as u64, 0, 1000)?;
        within("migrations.holdSeconds", migrations.hold_seconds, 0, 604_800)?;
        within("migrations.parallel", migrations.parallel as u64, 1, 64)?;
        if let Some(at) =
            migrations.canaries.iter().position(|name| name.split('/').filter(|p| !p.is_empty()).count() != 2)
        {
            return Err(format!("migrations.canaries[{at}]: must be namespace/name of a Tenant"));
        }
        if self.admin_api.audiences.iter().any(String::is_empty) {
            return Err("adminApi.audiences: must not contain an empty text".to_owned());
        }
        if self.registry_namespace.is_empty() {
            return Err("registryNamespace: must not be empty".to_owned());
        }
        if self.watch_namespaces.contains(&self.registry_namespace) {
            return Err("registryNamespace: must not be one of watchNamespaces".to_owned());
        }
        self.check_instances()
    }
}

impl OperatorSettings {
    /// Every instance, in the order of the settings.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceSettings> {
        std::iter::once(&self.database).chain(&self.databases)
    }

    fn check_instances(&self) -> Result<(), String> {
        for (place, instance) in self.instances().enumerate() {
            let path = place.checked_sub(1).map_or("database".to_owned(), |at| format!("databases[{at}]"));
            let clash = || self.instances().take(place).find_map(|earlier| instance.find_clash(earlier));
            if let Some(first) = instance.violations().into_iter().next().or_else(clash) {
                return Err(format!("{path}.{first}"));
            }
        }
        Ok(())
    }

    /// A connection to the API server that has received nothing for so long is closed. Longer than a watch is idle.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.watch_seconds) + 15)
    }

    /// Interval of the leader's heartbeats in the database.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_secs(self.cluster_heartbeat_timeout_seconds / 10)
    }

    /// Version that tenants are migrated to.
    pub fn schema_version(&self) -> i32 {
        self.migrations.version.unwrap_or(TENANT_VERSION)
    }

    /// How long the Lease is valid without renewal.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.leader_election.lease_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsFile, render, resolve};

    fn read(text: &str) -> Result<OperatorSettings, String> {
        resolve(Some(SettingsFile { name: "f", text }), []).map_err(|error| error.to_string())
    }

    const SECOND: &str = "name: second, host: db2, database: agents, user: at_operator_a";

    #[test]
    fn more_instances_have_the_same_keys_and_defaults_as_the_first() {
        let settings = read(&format!("databases: [{{ {SECOND}, acceptsNewTenants: false }}]")).unwrap();
        let names: Vec<_> = settings.instances().map(|instance| instance.name.as_str()).collect();
        assert_eq!(names, ["main", "second"]);
        let second = &settings.databases[0];
        assert_eq!((second.port, second.ssl_mode, second.tenants_per_cell), (5432, SslMode::VerifyFull, 500));
        assert!(settings.database.accepts_new_tenants && !second.accepts_new_tenants);
        let shown = render(&settings).unwrap();
        assert!(shown.contains("host: db2"), "{shown}");
        let variables = [("AGENT_TENANCY__DATABASES".to_owned(), format!("[{{ {SECOND} }}]"))];
        let settings: OperatorSettings = resolve(None, variables).unwrap();
        assert_eq!(settings.databases.len(), 1);
    }

    #[test]
    fn an_invalid_instance_is_named_by_its_position() {
        let third = "name: third, host: db3, database: agents, user: at_operator_a";
        for (list, begins) in [
            ("{ name: second, host: '', database: agents, user: u }", "databases[0].host: must not be empty"),
            ("{ name: Second, host: db2, database: agents, user: u }", "databases[0].name: must be"),
            (
                "{ name: second, host: db2, database: agents, user: u, maxConnections: 0 }",
                "databases[0].maxConnections:",
            ),
            (
                "{ name: main, host: db2, database: agents, user: u }",
                "databases[0].name: 'main' is the name of another",
            ),
            (
                "{ name: second, host: localhost, database: agents, user: u, namePrefix: xx }",
                "databases[0].host: instance 'main' has the same host, port and database",
            ),
            (
                "{ name: second, host: localhost, database: other, user: u }",
                "databases[0].host: instance 'main' uses namePrefix 'at' there",
            ),
            ("{ name: second, host: localhost, database: other, user: u, namePrefix: xx }", ""),
            ("{ name: second, host: localhost, port: 5433, database: agents, user: u }", ""),
        ] {
            match (read(&format!("databases: [{list}]")), begins) {
                (Ok(_), "") => {}
                (Err(wrong), begins) if !begins.is_empty() && wrong.starts_with(begins) => {}
                (result, _) => panic!("{list}: {result:?}"),
            }
            let wrong = read(&format!("databases: [{{ {third} }}, {list}]"));
            assert_eq!(wrong.err(), read(&format!("databases: [{list}]")).err().map(|w| w.replace("[0]", "[1]")));
        }
        let unknown = read(&format!("databases: [{{ {SECOND}, hosts: x }}]")).unwrap_err();
        assert!(unknown.starts_with("databases[0]") && unknown.contains("hosts"), "{unknown}");
    }

    #[test]
    fn a_renamed_key_is_refused_with_its_new_name() {
        for (old, new) in OperatorSettings::RENAMED {
            let error = read(&format!("{old}: {{}}")).unwrap_err();
            assert_eq!(error, format!("'{old}' (f) is now '{new}'"));
        }
        let variables = [("AGENT_TENANCY__PLAN__HTTP_ADDRESS".to_owned(), "0.0.0.0:8082".to_owned())];
        let error = resolve::<OperatorSettings>(None, variables).unwrap_err().to_string();
        assert_eq!(error, "'plan' (AGENT_TENANCY__PLAN__HTTP_ADDRESS) is now 'adminApi'");
    }

    #[test]
    fn the_committed_file_has_every_setting_with_its_default() {
        let text = include_str!("../../config/operator.yaml");
        assert_eq!(read(text), Ok(OperatorSettings::default()));
        let written: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(
            written,
            serde_yaml::to_value(OperatorSettings::default()).unwrap(),
            "the file leaves a setting out"
        );
    }
}
