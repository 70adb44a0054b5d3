//! SQL files by version, with checksums and grants: those of the product, for the control schema and for the tenants,
//! and the platform team's custom migrations for every tenant (`custom_migrations`).
//!
//! A tenant migration declares the privileges of the tenant's role in comment lines, `-- grant: SELECT, INSERT ON
//! usage`. The same declaration is used for granting and for detecting drift. A file with the line `-- no-transaction`
//! contains one statement that may be repeated, such as CREATE INDEX CONCURRENTLY IF NOT EXISTS.

use super::{
    ident::NamePrefix,
    sql::{QuoteError, quote_literal},
};
use aws_lc_rs::digest;
use serde::Deserialize;
use std::borrow::Cow;

/// One migration. Its version is its place in the list, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Version that the schema has after it.
    pub version: i32,
    /// Name of its file.
    pub name: Cow<'static, str>,
    /// Its text.
    pub sql: Cow<'static, str>,
}

/// Which sequence of files a migration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// The product's, in the tenant's schema.
    Base,
    /// The platform team's custom migrations, in a second schema.
    #[serde(rename = "own")]
    Custom,
}

impl Track {
    /// Its name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Custom => "own",
        }
    }
}

const fn file(version: i32, name: &'static str, sql: &'static str) -> Migration {
    Migration { version, name: Cow::Borrowed(name), sql: Cow::Borrowed(sql) }
}

/// Migrations of the control schema; run as the base role.
pub const CONTROL: &[Migration] = &[
    file(1, "0001_control.sql", include_str!("../../config/sql/control/0001_control.sql")),
    file(2, "0002_migrations.sql", include_str!("../../config/sql/control/0002_migrations.sql")),
    file(3, "0003_logins.sql", include_str!("../../config/sql/control/0003_logins.sql")),
    file(4, "0004_takeover.sql", include_str!("../../config/sql/control/0004_takeover.sql")),
    file(5, "0005_kept_data.sql", include_str!("../../config/sql/control/0005_kept_data.sql")),
];

/// Migrations of a tenant's schema; run as the cell's owner role with that schema as the search path.
pub const TENANT: &[Migration] = &[
    file(1, "0001_base.sql", include_str!("../../config/migrations/0001_base.sql")),
    file(2, "0002_storage.sql", include_str!("../../config/migrations/0002_storage.sql")),
    file(3, "0003_truncate.sql", include_str!("../../config/migrations/0003_truncate.sql")),
    file(4, "0004_usage.sql", include_str!("../../config/migrations/0004_usage.sql")),
];

/// The bootstrap script for the database's administrator. Tests and local environments run it too.
pub const BOOTSTRAP: &str = include_str!("../../config/sql/bootstrap.sql");

/// The bootstrap script with its settings in front, as one text for any client. The database's owner runs it, connected
/// to that database.
///
/// # Errors
/// When the password or verifier holds a zero byte.
pub fn render_bootstrap(prefix: &NamePrefix, operator_password: &str) -> Result<String, QuoteError> {
    let (prefix, password) = (quote_literal(prefix.as_str())?, quote_literal(operator_password)?);
    Ok(format!("SET agent_tenancy.prefix = {prefix};\nSET agent_tenancy.operator_password = {password};\n{BOOTSTRAP}"))
}

/// Name of the login that [`render_bootstrap`] sets the password of.
pub fn bootstrap_login(prefix: &NamePrefix) -> String {
    format!("{prefix}_operator_a")
}

/// Version of the newest control schema.
pub(crate) const CONTROL_VERSION: i32 = CONTROL.len() as i32;

/// Version of the newest tenant schema, which new tenants get.
pub const TENANT_VERSION: i32 = TENANT.len() as i32;

/// First version of a tenant's schema that counts its bytes, in the table `storage`.
pub(crate) const STORAGE_SINCE: i32 = 2;

/// First version of a tenant's schema with the columns `model` and `client_request_id` in `usage`.
pub(crate) const USAGE_MODEL_SINCE: i32 = 4;

/// Privileges of a tenant's role on one of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Keywords of GRANT, of [`PRIVILEGES`].
    pub privileges: Vec<&'static str>,
    /// Name of the table, `[a-z][a-z0-9_]*`.
    pub table: String,
}

/// The privileges that a migration may grant. None of them lets the tenant change the table itself.
pub const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// A `-- grant:` line that does not follow the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line} is not '-- grant: SELECT[, INSERT…] ON table'")]
pub struct GrantError {
    /// The migration's file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
}

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub fn checksum(&self) -> String {
        let sum = digest::digest(&digest::SHA256, self.sql.as_bytes());
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The checksum that an operator recorded which took the line endings CRLF as a part of the text.
    pub fn crlf_checksum(&self) -> String {
        Self { sql: self.sql.replace('\n', "\r\n").into(), ..self.clone() }.checksum()
    }

    /// Whether this text was applied, by the checksum that was recorded then.
    pub(crate) fn was_recorded_as(&self, checksum: &str) -> bool {
        self.checksum() == checksum || self.crlf_checksum() == checksum
    }

    /// Whether it runs in one transaction with its record in the ledger.
    pub(crate) fn is_transactional(&self) -> bool {
        !self.sql.lines().any(|line| line.trim_end() == "-- no-transaction")
    }

    /// Parses the grants.
    ///
    /// # Errors
    /// When a line that starts with `-- grant:` does not follow the form.
    pub fn grants(&self) -> Result<Vec<Grant>, GrantError> {
        let declared =
            self.sql.lines().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix("-- grant:")?)));
        declared
            .map(|(at, text)| {
                parse_grant(text).ok_or(GrantError { file: self.name.clone().into_owned(), line: at + 1 })
            })
            .collect()
    }
}

/// The checksums of the tenants' files up to a version, oldest first.
pub fn tenant_checksums(version: i32) -> Vec<String> {
    TENANT.iter().filter(|m| m.version <= version).map(Migration::checksum).collect()
}

/// The version up to which a tenant's files can be applied in one transaction, from a version on.
pub(crate) fn transactional_version(from: i32, target: i32) -> i32 {
    let files = TENANT.iter().filter(|m| m.version > from && m.version <= target);
    files.take_while(|m| m.is_transactional()).last().map_or(from, |m| m.version)
}

/// The grants of the tenant's tables up to a version, oldest declaration first.
///
/// # Errors
/// When a declaration does not follow the form.
pub fn tenant_grants(version: i32) -> Result<Vec<Grant>, GrantError> {
    let mut grants = Vec::new();
    for migration in TENANT.iter().filter(|m| m.version <= version) {
        grants.extend(migration.grants()?);
    }
    Ok(grants)
}

fn parse_grant(text: &str) -> Option<Grant> {
    let (privileges, table) = text.split_once(" ON ")?;
    let table = table.trim();
    let privileges: Option<Vec<_>> =
        privileges.split(',').map(|word| PRIVILEGES.into_iter().find(|p| *p == word.trim())).collect();
    let good = table.starts_with(|c: char| c.is_ascii_lowercase())
        && table.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (good && table.len() <= 63).then_some(Grant { privileges: privileges?, table: table.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_no_gaps_and_every_table_with_a_grant_is_created() {
        for list in [CONTROL, TENANT] {
            assert!(list.iter().enumerate().all(|(at, m)| m.version == at as i32 + 1));
        }
        let all: String = TENANT.iter().map(|m| m.sql.as_ref()).collect();
        let grants = tenant_grants(TENANT_VERSION).unwrap();
        assert!(!grants.is_empty());
        for grant in grants {
            assert!(all.contains(&format!("CREATE TABLE {} (", grant.table)), "{}", grant.table);
        }
    }

    #[test]
    fn a_track_has_one_name_in_the_ledger() {
        for track in [Track::Base, Track::Custom] {
            assert_eq!(serde_json::from_value::<Track>(track.as_str().into()).unwrap(), track);
        }
    }

    #[test]
    fn a_damaged_declaration_is_an_error_and_not_a_missing_grant() {
        let with = |sql| file(1, "x.sql", sql).grants();
        let refused = GrantError { file: "x.sql".to_owned(), line: 2 };
        assert_eq!(with("-- grant: SELECT ON a\n-- grant: TRUNCATE ON a"), Err(refused));
        assert!(with("-- grant: SELECT ON a; DROP TABLE b").is_err());
        assert!(with("-- grant: SELECT a").is_err());
        assert!(with("-- grant:  ON a").is_err());
        assert_eq!(with("-- grants are below").unwrap(), []);
        assert!(file(1, "x.sql", "SELECT 1;").is_transactional());
        assert!(!file(1, "x.sql", "-- why\n-- no-transaction\nCREATE INDEX").is_transactional());
    }
}
