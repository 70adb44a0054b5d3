//! Drift: changes that somebody made to a tenant's role, schema and tables. This module judges one tenant. One query over
//! all tenants only enqueues those that may have drifted.
//!
//! Relations that somebody added to the schema are no drift. Row security and triggers are not checked.
//!
//! | file | what is there |
//! | --- | --- |
//! | `mod` | the kinds of drift, in words |
//! | `judge` | which facts differ from what provisioning creates |
//! | `privileges` | parsing of access control lists |
//! | `repair` | the statements that repair a drift |

mod judge;
mod privileges;
mod repair;
#[cfg(test)]
mod tests;

pub use super::observed::access::{
    AccessFacts, ColumnFacts, DefaultFacts, MembershipFacts, ObjectFacts, RoleAttributes, SettingFacts, TableFacts,
};
pub use judge::{find_lost_table, judge_access};
pub use privileges::PrivilegesError;
pub use repair::{RepairNames, render_remedies};

use std::fmt;

/// Most findings that one message names.
const MOST_FINDINGS: usize = 8;

/// One thing that is not as the operator made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Schema, table or sequence belongs to another role than the cell's owner role.
    Owner {
        /// What.
        of: Place,
        /// The role it belongs to.
        found: String,
    },
    /// Somebody has privileges that the migrations don't name.
    PrivilegeAdded {
        /// On what.
        on: Place,
        /// The role; `None` is PUBLIC.
        to: Option<String>,
        /// Which, as keywords of GRANT.
        privileges: Vec<&'static str>,
    },
    /// A privilege that the migrations name may be granted on.
    GrantOption {
        /// On what.
        on: Place,
        /// The role.
        to: String,
        /// Which, as keywords of GRANT.
        privileges: Vec<&'static str>,
    },
    /// The tenant's role or the owner lacks privileges.
    PrivilegeLost {
        /// On what.
        on: Place,
        /// The role.
        from: String,
        /// Which, as keywords of GRANT.
        privileges: Vec<&'static str>,
    },
    /// What the owner role will make in the schema gives somebody privileges.
    DefaultPrivilege {
        /// Kind of what will be made, as a keyword of ALTER DEFAULT PRIVILEGES.
        on: &'static str,
        /// The role; `None` is PUBLIC.
        to: Option<String>,
    },
    /// The cell's access group is not a member of the tenant's role: the agent API can't become the tenant.
    MemberLost,
    /// The access group's membership gives more, or less, than becoming the role.
    MemberOptions {
        /// Options that it has and should not have.
        added: Vec<MemberOption>,
        /// Options that it lacks.
        lost: Vec<MemberOption>,
        /// The grantor.
        grantor: String,
    },
    /// Somebody else may become the tenant's role, or inherits from it.
    MemberAdded {
        /// The role.
        member: String,
        /// The grantor.
        grantor: String,
    },
    /// The tenant's role became a member of another one.
    MemberOf {
        /// Of which.
        group: String,
        /// The grantor.
        grantor: String,
    },
    /// The cell's owner role may not administer the tenant's role any more.
    AdminLost,
    /// The role has an attribute that a tenant's role has not.
    Attribute(Attribute),
    /// The role has a setting of its own.
    Setting {
        /// Its name; the value is nobody's business.
        name: String,
        /// In one database only.
        database: Option<String>,
    },
    /// The comment that marks the role as ours is gone.
    RoleMark,
    /// The comment that marks the schema as ours is gone.
    SchemaMark,
}

/// What has an owner and privileges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The tenant's schema.
    Schema,
    /// One of its tables.
    Table(String),
    /// A sequence that belongs to a table.
    Sequence(String),
    /// A column.
    Column {
        /// Of this table.
        table: String,
        /// Its name.
        column: String,
    },
}

/// An option of a membership; before 16 there is ADMIN alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberOption {
    /// Has the role's privileges without becoming it.
    Inherit,
    /// May become the role.
    Set,
    /// May grant the role.
    Admin,
}

/// An attribute of a role that no tenant's role has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// SUPERUSER.
    Superuser,
    /// CREATEROLE.
    CreateRole,
    /// CREATEDB.
    CreateDb,
    /// LOGIN, perhaps with a password, which only a superuser can see.
    Login,
    /// REPLICATION.
    Replication,
    /// BYPASSRLS.
    BypassRls,
    /// INHERIT.
    Inherit,
    /// CONNECTION LIMIT.
    ConnectionLimit,
    /// VALID UNTIL.
    ValidUntil,
}

/// A drift, and whether the operator can repair it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub drift: Drift,
    /// The operator's privileges are enough.
    pub repairable: bool,
}

impl MemberOption {
    /// The keyword of GRANT.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inherit => "INHERIT",
            Self::Set => "SET",
            Self::Admin => "ADMIN",
        }
    }
}

impl Attribute {
    /// The keyword of ALTER ROLE.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superuser => "SUPERUSER",
            Self::CreateRole => "CREATEROLE",
            Self::CreateDb => "CREATEDB",
            Self::Login => "LOGIN",
            Self::Replication => "REPLICATION",
            Self::BypassRls => "BYPASSRLS",
            Self::Inherit => "INHERIT",
            Self::ConnectionLimit => "CONNECTION LIMIT",
            Self::ValidUntil => "VALID UNTIL",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema => f.write_str("the schema"),
            Self::Table(name) => write!(f, "table {name}"),
            Self::Sequence(name) => write!(f, "sequence {name}"),
            Self::Column { table, column } => write!(f, "column {table}.{column}"),
        }
    }
}

fn grantee(to: &Option<String>) -> String {
    to.as_ref().map_or_else(|| "PUBLIC".to_owned(), |name| format!("'{name}'"))
}

fn options(list: &[MemberOption]) -> String {
    list.iter().map(|option| option.as_str()).collect::<Vec<_>>().join(", ")
}

/// In words that are true before and after the repair.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { of, found } => write!(f, "{of} owned by '{found}'"),
            Self::PrivilegeAdded { on, to, privileges } => {
                write!(f, "{} on {on} given to {}", privileges.join(", "), grantee(to))
            }
            Self::GrantOption { on, to, privileges } => {
                write!(f, "{} on {on} given to '{to}' with grant option", privileges.join(", "))
            }
            Self::PrivilegeLost { on, from, privileges } => {
                write!(f, "{} on {on} taken from '{from}'", privileges.join(", "))
            }
            Self::DefaultPrivilege { on, to } => {
                write!(f, "default privileges on new {} given to {}", on.to_ascii_lowercase(), grantee(to))
            }
            Self::MemberLost => f.write_str("the agent API's group taken out of the role"),
            Self::MemberOptions { added, lost, .. } => {
                f.write_str("membership of the agent API's group")?;
                if !added.is_empty() {
                    write!(f, " with {}", options(added))?;
                }
                if !lost.is_empty() {
                    write!(f, " without {}", options(lost))?;
                }
                Ok(())
            }
            Self::MemberAdded { member, .. } => write!(f, "'{member}' made a member of the role"),
            Self::MemberOf { group, .. } => write!(f, "the role made a member of '{group}'"),
            Self::AdminLost => f.write_str("the owner role may not administer the role any more"),
            Self::Attribute(attribute) => write!(f, "the role given {}", attribute.as_str()),
            Self::Setting { name, database: None } => write!(f, "{name} set for the role"),
            Self::Setting { name, database: Some(database) } => {
                write!(f, "{name} set for the role in database '{database}'")
            }
            Self::RoleMark => f.write_str("the mark on the role removed"),
            Self::SchemaMark => f.write_str("the mark on the schema removed"),
        }
    }
}

/// A list in words, of bounded length.
pub fn render_list<'a>(found: impl ExactSizeIterator<Item = &'a Drift>) -> String {
    let rest = found.len().saturating_sub(MOST_FINDINGS);
    let mut text = found.take(MOST_FINDINGS).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if rest > 0 {
        text.push_str(&format!("; and {rest} more"));
    }
    text
}
