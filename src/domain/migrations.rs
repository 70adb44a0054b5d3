//! The SQL files that are part of the program: the control schema's and the tenants', with checksums and grants.
//!
//! A tenant migration declares what the tenant's role may do in comment lines, `-- grant: SELECT, INSERT ON usage`,
//! so that the same declaration serves for granting and for noticing drift.

use super::{
    ident::NamePrefix,
    sql::{QuoteError, quote_literal},
};
use aws_lc_rs::digest;

/// One migration. Its version is its place in the list, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Version that the schema has after it.
    pub version: i32,
    /// Name of its file.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
}

/// Migrations of the control schema; run as the base role.
pub const CONTROL: &[Migration] = &[Migration {
    version: 1,
    name: "0001_control.sql",
    sql: include_str!("../../config/sql/control/0001_control.sql"),
}];

/// Migrations of a tenant's schema; run as the cell's owner role with that schema as the search path.
pub const TENANT: &[Migration] =
    &[Migration { version: 1, name: "0001_base.sql", sql: include_str!("../../config/migrations/0001_base.sql") }];

/// For the database's administrator, see the file. Also what tests and local environments run.
pub const BOOTSTRAP: &str = include_str!("../../config/sql/bootstrap.sql");

/// The bootstrap with its choices in front, as one text for any client: run it as the database's owner, connected to
/// that database.
///
/// # Errors
/// When the password or verifier holds a zero byte.
pub fn render_bootstrap(prefix: &NamePrefix, operator_password: &str) -> Result<String, QuoteError> {
    let (prefix, password) = (quote_literal(prefix.as_str())?, quote_literal(operator_password)?);
    Ok(format!("SET agent_tenancy.prefix = {prefix};\nSET agent_tenancy.operator_password = {password};\n{BOOTSTRAP}"))
}

/// Name of the login that [`render_bootstrap`] gives the password to.
pub fn bootstrap_login(prefix: &NamePrefix) -> String {
    format!("{prefix}_operator_a")
}

/// Version of the newest control schema.
pub const CONTROL_VERSION: i32 = CONTROL.len() as i32;

/// Version of the newest tenant schema: what a new tenant gets.
pub const TENANT_VERSION: i32 = TENANT.len() as i32;

/// What a tenant's role may do with one of its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Keywords of GRANT, of [`PRIVILEGES`].
    pub privileges: Vec<&'static str>,
    /// Name of the table, `[a-z][a-z0-9_]*`.
    pub table: String,
}

/// The privileges that a migration may grant. None of them lets the tenant change the table itself.
pub const PRIVILEGES: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// A `-- grant:` line that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: line {line} is not '-- grant: SELECT[, INSERT…] ON table'")]
pub struct GrantError {
    /// The migration's file.
    pub file: &'static str,
    /// Number of the line, from 1.
    pub line: usize,
}

impl Migration {
    /// SHA-256 of the text, in hexadecimal.
    pub fn checksum(&self) -> String {
        let sum = digest::digest(&digest::SHA256, self.sql.as_bytes());
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the grants.
    ///
    /// # Errors
    /// When a line that starts with `-- grant:` does not follow the form.
    pub fn grants(&self) -> Result<Vec<Grant>, GrantError> {
        let declared =
            self.sql.lines().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix("-- grant:")?)));
        declared.map(|(at, text)| parse_grant(text).ok_or(GrantError { file: self.name, line: at + 1 })).collect()
    }
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
    fn versions_count_up_and_every_declared_table_is_made() {
        for list in [CONTROL, TENANT] {
            assert!(list.iter().enumerate().all(|(at, m)| m.version == at as i32 + 1));
        }
        let all: String = TENANT.iter().map(|m| m.sql).collect();
        let grants = tenant_grants(TENANT_VERSION).unwrap();
        assert!(!grants.is_empty());
        for grant in grants {
            assert!(all.contains(&format!("CREATE TABLE {} (", grant.table)), "{}", grant.table);
        }
    }

    #[test]
    fn a_damaged_declaration_is_an_error_and_not_a_missing_grant() {
        let with = |sql| Migration { version: 1, name: "x.sql", sql }.grants();
        assert_eq!(with("-- grant: SELECT ON a\n-- grant: TRUNCATE ON a"), Err(GrantError { file: "x.sql", line: 2 }));
        assert!(with("-- grant: SELECT ON a; DROP TABLE b").is_err());
        assert!(with("-- grant: SELECT a").is_err());
        assert!(with("-- grant:  ON a").is_err());
        assert_eq!(with("-- grants are below").unwrap(), []);
    }
}
