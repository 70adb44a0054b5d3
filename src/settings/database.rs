//! Settings of one database instance: its address, the operator's login, and limits.

use crate::domain::ident::{DatabaseId, NamePrefix, is_instance_name};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// One Postgres database that holds tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstanceSettings {
    /// Its name in `spec.database.instance`: 1 to 30 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Host name or address, or the folder of a Unix socket.
    pub host: String,
    /// Port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// Login role of the operator: `<prefix>_operator_a` or `_b`.
    pub user: String,
    /// File with its password, which is read again for every connection, so that it can be rotated.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Environment variable with its password, if there is no file.
    #[serde(default)]
    pub password_env: Option<String>,
    /// TLS.
    #[serde(default)]
    pub ssl_mode: SslMode,
    /// PEM file with the CA certificates to trust, instead of the public ones.
    #[serde(default)]
    pub ssl_root_cert_file: Option<PathBuf>,
    /// Prefix of every role and schema; no other operator may use it on that server.
    #[serde(default = "default_prefix")]
    pub name_prefix: NamePrefix,
    /// Most connections of the operator.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// New Tenants are placed here. If `false`, the instance keeps the Tenants that it has.
    #[serde(default = "default_accepts_new_tenants")]
    pub accepts_new_tenants: bool,
    /// Target number of tenants in one cell.
    #[serde(default = "default_tenants_per_cell")]
    pub tenants_per_cell: usize,
    /// How long the data of a deleted Tenant with the policy `Archive` is kept, in seconds.
    #[serde(default = "default_archive_seconds")]
    pub archive_seconds: u32,
    /// How long a connection may take to open.
    #[serde(default = "default_connect_seconds")]
    pub connect_timeout_seconds: u32,
    /// How long one statement may take.
    #[serde(default = "default_statement_seconds")]
    pub statement_timeout_seconds: u32,
    /// How long one statement may wait for a lock.
    #[serde(default = "default_lock_seconds")]
    pub lock_timeout_seconds: u32,
    /// How long one statement of a migration may take.
    #[serde(default = "default_migration_seconds")]
    pub migration_timeout_seconds: u32,
    /// Interval of the drift check of all tenants, by one query, in seconds (±20 %). 0: never.
    #[serde(default = "default_drift_seconds")]
    pub drift_seconds: u32,
    /// Maximum age of the passwords of the agent API's logins, in seconds. Each is rotated at 80 to 100 % of it. 0: no rotation
    /// by age.
    #[serde(default = "default_login_rotation_seconds")]
    pub login_rotation_seconds: u32,
    /// The agent API connects here instead of to `host`; for a pooler.
    #[serde(default)]
    pub agent_api_host: Option<String>,
    /// The agent API connects to this port instead of `port`; for a pooler.
    #[serde(default)]
    pub agent_api_port: Option<u16>,
    /// Identity of a database that is lost for good: the instance may replace it with an empty one.
    #[serde(default)]
    pub lost_database_id: Option<DatabaseId>,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it. An attacker can prevent it.
    Prefer,
    /// TLS with any certificate.
    Require,
    /// TLS with a certificate of a trusted CA.
    VerifyCa,
    /// The same, and the certificate is for this host.
    #[default]
    VerifyFull,
}

impl SslMode {
    /// libpq's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

fn default_port() -> u16 {
    5432
}
fn default_prefix() -> NamePrefix {
    NamePrefix::standard()
}
fn default_connections() -> u32 {
    8
}
fn default_accepts_new_tenants() -> bool {
    true
}
fn default_tenants_per_cell() -> usize {
    500
}
fn default_archive_seconds() -> u32 {
    2_592_000
}
fn default_connect_seconds() -> u32 {
    5
}
fn default_statement_seconds() -> u32 {
    30
}
fn default_lock_seconds() -> u32 {
    5
}
fn default_migration_seconds() -> u32 {
    600
}
fn default_drift_seconds() -> u32 {
    300
}
fn default_login_rotation_seconds() -> u32 {
    2_592_000
}

impl InstanceSettings {
    /// The violated rules, one sentence each, with the name of the field.
    pub fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut require = |is_valid: bool, text: &str| {
            if !is_valid {
                found.push(text.to_owned());
            }
        };
        let name_ok = is_instance_name(&self.name);
        require(name_ok, "name: must be 1 to 30 characters of a-z, 0-9 and -, not starting or ending with -");
        require(!self.host.is_empty(), "host: must not be empty");
        require(!self.database.is_empty() && self.database.len() <= 63, "database: must have 1 to 63 bytes");
        require(!self.user.is_empty() && self.user.len() <= 63, "user: must have 1 to 63 bytes");
        require(
            self.password_file.is_none() || self.password_env.is_none(),
            "passwordFile, passwordEnv: only one of them may be set",
        );
        require((1..=100).contains(&self.max_connections), "maxConnections: must be 1 to 100");
        require((1..=2000).contains(&self.tenants_per_cell), "tenantsPerCell: must be 1 to 2000");
        require(
            (60..=315_360_000).contains(&self.archive_seconds),
            "archiveSeconds: must be from 60 to 315360000 (a minute to ten years)",
        );
        let drift_ok = self.drift_seconds == 0 || (10..=86_400).contains(&self.drift_seconds);
        require(drift_ok, "driftSeconds: must be 0, or from 10 to 86400");
        let migration_ok = (1..=86_400).contains(&self.migration_timeout_seconds);
        require(migration_ok, "migrationTimeoutSeconds: must be 1 to 86400");
        let rotation = self.login_rotation_seconds;
        require(
            rotation == 0 || (3600..=315_360_000).contains(&rotation),
            "loginRotationSeconds: must be 0, or from 3600 to 315360000 (an hour to ten years)",
        );
        for (value, field) in [
            (self.connect_timeout_seconds, "connectTimeoutSeconds"),
            (self.statement_timeout_seconds, "statementTimeoutSeconds"),
            (self.lock_timeout_seconds, "lockTimeoutSeconds"),
        ] {
            require((1..=600).contains(&value), &format!("{field}: must be 1 to 600"));
        }
        found
    }

    /// A conflict with an earlier instance, with the name of the field.
    pub fn find_clash(&self, earlier: &Self) -> Option<String> {
        let other = &earlier.name;
        if self.name == earlier.name {
            return Some(format!("name: '{other}' is the name of another instance"));
        }
        if (&self.host, self.port) != (&earlier.host, earlier.port) {
            return None;
        }
        if self.database == earlier.database {
            return Some(format!("host: instance '{other}' has the same host, port and database"));
        }
        (self.name_prefix == earlier.name_prefix).then(|| {
            format!(
                "host: instance '{other}' uses namePrefix '{}' there; roles belong to the whole server",
                self.name_prefix
            )
        })
    }

    /// Host and port that the agent API connects to.
    pub fn agent_api_address(&self) -> (&str, u16) {
        (self.agent_api_host.as_deref().unwrap_or(&self.host), self.agent_api_port.unwrap_or(self.port))
    }

    /// How long a connection may take to open.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::operator::OperatorSettings;

    #[test]
    fn logins_are_rotated_never_or_at_most_once_an_hour() {
        for (seconds, good) in [(0, true), (1, false), (3599, false), (3600, true), (315_360_001, false)] {
            let database = OperatorSettings::default().database;
            let wrong = super::InstanceSettings { login_rotation_seconds: seconds, ..database }.violations();
            assert_eq!(wrong.is_empty(), good, "{seconds}: {wrong:?}");
            assert!(good || wrong[0].starts_with("loginRotationSeconds:"), "{wrong:?}");
        }
    }

    #[test]
    fn an_archive_is_kept_for_a_minute_to_ten_years() {
        for (seconds, good) in [(59, false), (60, true), (2_592_000, true), (315_360_000, true), (315_360_001, false)] {
            let database = OperatorSettings::default().database;
            let wrong = super::InstanceSettings { archive_seconds: seconds, ..database }.violations();
            assert_eq!(wrong.is_empty(), good, "{seconds}: {wrong:?}");
            assert!(good || wrong[0].starts_with("archiveSeconds:"), "{wrong:?}");
        }
    }
}
