//! Settings of the agent API. `config/agent-api.yaml` holds every one with its default and a comment.

use super::{LogSettings, Settings};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Settings of the agent API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentApiSettings {
    /// The API itself.
    pub http: HttpSettings,
    /// Health, metrics, registry status.
    pub health: HealthSettings,
    /// Where the tenants come from.
    pub registry: RegistrySettings,
    /// How this replica says what it serves.
    pub acknowledgement: AcknowledgementSettings,
    /// Connections to Postgres.
    pub database: DatabaseSettings,
    /// Connections to providers.
    pub upstream: UpstreamSettings,
    /// Bounds on what clients and providers may send.
    pub limits: LimitSettings,
    /// Logs.
    pub log: LogSettings,
}

/// The API's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// How long running requests may take to end once the process has to stop, and how long the outcome of a call is
    /// tried to be stored, in seconds. Longer than the longest call.
    pub drain_seconds: u64,
    /// How long to go on accepting after SIGTERM, so that load balancers notice, in seconds.
    pub drain_delay_seconds: u64,
    /// Most connections at once; at this number connections without a request are closed for new ones.
    pub max_connections: usize,
    /// Longest wait for the rest of a request's head, in seconds.
    pub head_seconds: u64,
    /// Longest wait for the next request on a connection, in seconds. Longer than a load balancer's.
    pub idle_seconds: u64,
    /// Longest wait for a client to read more of its answer, in seconds.
    pub write_seconds: u64,
}

/// The listener for health, metrics and registry status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthSettings {
    /// Address and port.
    pub listen: SocketAddr,
}

/// Where the tenants come from: a namespace, or a directory instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySettings {
    /// Namespace that holds the registry's Secrets.
    pub namespace: String,
    /// Directory with one JSON file per entry, instead of a namespace; empty: none.
    pub directory: String,
    /// How often the directory is read again even if nothing reported a change, in seconds.
    pub directory_poll_seconds: u64,
    /// After how long the API server is to end a watch, in seconds. One from which nothing came for 5 s longer has lost
    /// its peer, and is started again.
    pub watch_seconds: u32,
    /// How long to serve on without word from the API server, in seconds; 0: for ever.
    pub max_staleness_seconds: u64,
}

/// How this replica says what it serves. Without effect when the registry is a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcknowledgementSettings {
    /// Namespace of the Lease; empty: the Pod's (variable `POD_NAMESPACE`).
    pub namespace: String,
    /// First part of the Lease's name; the Pod's name or the process id follows.
    pub name_prefix: String,
    /// Shortest time between two writes, in milliseconds.
    pub interval_millis: u64,
    /// How often to write although nothing has changed, in seconds.
    pub heartbeat_seconds: u64,
}

/// Connections to Postgres.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Most connections of this replica, over all cells.
    pub connection_budget: usize,
    /// Longest wait for a connection, in milliseconds; then the request is answered with 503.
    pub acquire_timeout_millis: u64,
    /// Longest login, in seconds; also how long a new cell may hold up the acknowledgement.
    pub login_timeout_seconds: u64,
    /// A connection that was unused for so long is closed, in seconds.
    pub idle_seconds: u64,
    /// A connection that is so old is closed: the server never gives back what it cached for it, in seconds.
    pub max_lifetime_seconds: u64,
    /// A transaction that sits idle for so long is ended by the server, in seconds.
    pub idle_in_transaction_seconds: u64,
    /// Whether statements are prepared once per connection; `false` behind a pgbouncer older than 1.21.
    pub prepared_statements: bool,
    /// File with the certificates of the CAs that sign the databases' certificates; empty: built-in ones.
    pub root_certificates: String,
}

/// Connections to providers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Proxy for all calls, `http://host:port`; empty: none. It resolves the providers' names itself.
    pub proxy_url: String,
    /// File with the CA certificates that providers' certificates may be signed by, besides the built-in ones; empty: none.
    pub root_certificates: String,
}

/// Bounds on what clients and providers may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Longest wait for a request's body, in seconds.
    pub body_seconds: u64,
    /// Largest answer of a provider, in bytes.
    pub upstream_bytes: usize,
    /// Most chat calls at once in this replica.
    pub concurrent_chats: usize,
    /// Most of the chat calls, of the connections to Postgres and of the memory that one tenant may use, in percent.
    pub tenant_share_percent: u64,
    /// Memory that the process may use, in MiB; 0: the limit of its control group, or 512 without one.
    pub memory_mebibytes: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            drain_seconds: 620,
            drain_delay_seconds: 5,
            max_connections: 1024,
            head_seconds: 10,
            idle_seconds: 75,
            write_seconds: 30,
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 8081)) }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            namespace: "agent-tenancy-registry".to_owned(),
            directory: String::new(),
            directory_poll_seconds: 5,
            watch_seconds: 55,
            max_staleness_seconds: 900,
        }
    }
}

impl Default for AcknowledgementSettings {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            name_prefix: "agent-api".to_owned(),
            interval_millis: 100,
            heartbeat_seconds: 10,
        }
    }
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            connection_budget: 16,
            acquire_timeout_millis: 2000,
            login_timeout_seconds: 5,
            idle_seconds: 300,
            max_lifetime_seconds: 900,
            idle_in_transaction_seconds: 10,
            prepared_statements: true,
            root_certificates: String::new(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            body_seconds: 10,
            upstream_bytes: 4 * 1024 * 1024,
            concurrent_chats: 512,
            tenant_share_percent: 12,
            memory_mebibytes: 0,
        }
    }
}

impl Settings for AgentApiSettings {
    fn check(&self) -> Result<(), String> {
        let Self { http, health: _, registry, acknowledgement, database, upstream: _, limits, log: _ } = self;
        if registry.namespace.is_empty() && registry.directory.is_empty() {
            return Err("registry: one of 'namespace' and 'directory' must be set".to_owned());
        }
        let bounds: [(&str, u64, u64, u64); 21] = [
            ("http.drainSeconds", http.drain_seconds, 0, 3600),
            ("http.drainDelaySeconds", http.drain_delay_seconds, 0, 300),
            ("http.maxConnections", http.max_connections as u64, 1, 1_000_000),
            ("http.headSeconds", http.head_seconds, 1, 600),
            ("http.idleSeconds", http.idle_seconds, 1, 3600),
            ("http.writeSeconds", http.write_seconds, 1, 600),
            ("registry.directoryPollSeconds", registry.directory_poll_seconds, 1, 3600),
            ("registry.watchSeconds", registry.watch_seconds.into(), 1, 290),
            ("registry.maxStalenessSeconds", registry.max_staleness_seconds, 0, 604_800),
            ("acknowledgement.intervalMillis", acknowledgement.interval_millis, 10, 10_000),
            ("acknowledgement.heartbeatSeconds", acknowledgement.heartbeat_seconds, 1, 300),
            ("database.connectionBudget", database.connection_budget as u64, 1, 10_000),
            ("database.acquireTimeoutMillis", database.acquire_timeout_millis, 1, 60_000),
            ("database.loginTimeoutSeconds", database.login_timeout_seconds, 1, 60),
            ("database.idleSeconds", database.idle_seconds, 1, 86_400),
            ("database.maxLifetimeSeconds", database.max_lifetime_seconds, 1, 86_400),
            ("database.idleInTransactionSeconds", database.idle_in_transaction_seconds, 1, 3600),
            ("limits.bodySeconds", limits.body_seconds, 1, 600),
            ("limits.concurrentChats", limits.concurrent_chats as u64, 1, 1_000_000),
            ("limits.tenantSharePercent", limits.tenant_share_percent, 1, 100),
            ("limits.memoryMebibytes", limits.memory_mebibytes, 0, 1_048_576),
        ];
        for (path, value, min, max) in bounds {
            if !(min..=max).contains(&value) {
                return Err(format!("{path}: must be from {min} to {max}, is {value}"));
            }
        }
        for (path, bytes) in [("limits.bodyBytes", limits.body_bytes), ("limits.upstreamBytes", limits.upstream_bytes)]
        {
            if !(1024..=64 * 1024 * 1024).contains(&bytes) {
                return Err(format!("{path}: must be from 1024 to 67108864, is {bytes}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsFile, resolve};

    #[test]
    fn the_committed_file_holds_every_setting_with_its_default() {
        let text = include_str!("../../config/agent-api.yaml");
        let read: AgentApiSettings = resolve(Some(SettingsFile { name: "config/agent-api.yaml", text }), []).unwrap();
        assert_eq!(read, AgentApiSettings::default());
        let written: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        let defaults = serde_yaml::to_value(AgentApiSettings::default()).unwrap();
        assert_eq!(written, defaults, "the file leaves a setting out");
    }

    #[test]
    fn a_registry_is_somewhere() {
        let read = |text: &str| {
            resolve::<AgentApiSettings>(Some(SettingsFile { name: "f", text }), []).map_err(|e| e.to_string())
        };
        assert!(read("registry: { namespace: '' }").unwrap_err().contains("must be set"));
        assert!(read("registry: { directory: /entries }").is_ok());
    }
}
