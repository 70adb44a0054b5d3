//! The statements that repair a drift: the operator runs them, or a condition names them where the operator's privileges
//! don't suffice.

use super::{Attribute, Drift, MemberOption, Place, render_list};
use crate::domain::sql::{QuoteError, quote_ident, quote_literal};
use crate::plan::observed::access::MODERN;
use crate::plan::observed::{DatabaseView, LedgerFacts, LedgerRow, render_mark};

/// The names of a tenant's objects.
#[derive(Clone, Copy, Debug)]
pub struct RepairNames<'a> {
    /// The tenant's schema.
    pub schema: &'a str,
    /// The tenant's role.
    pub role: &'a str,
    /// The cell's owner role.
    pub owner: &'a str,
    /// The cell's access group.
    pub access: &'a str,
    /// The comment on role and schema.
    pub mark: &'a str,
    /// From 16 on memberships have options and a grantor.
    pub modern: bool,
}

/// Most statements that one message holds.
const MOST_STATEMENTS: usize = 4;

/// What an administrator has to repair, and how, for a condition.
pub fn render_remedies(found: &[Drift], row: &LedgerRow, view: &DatabaseView) -> String {
    let what = render_list(found.iter());
    let DatabaseView::Facts(LedgerFacts { access: Some(access), database_id, .. }) = view else { return what };
    let mark = render_mark(*database_id, row.incarnation);
    let names = RepairNames {
        schema: &row.schema,
        role: &row.role,
        owner: &access.owner,
        access: &access.access,
        mark: &mark,
        modern: access.server_version >= MODERN,
    };
    // A name that can't be written is one that Postgres does not give out.
    let statements: Vec<String> = found.iter().filter_map(|drift| drift.render_remedy(&names).ok()).collect();
    let rest = statements.len().saturating_sub(MOST_STATEMENTS);
    let mut text = statements.into_iter().take(MOST_STATEMENTS).collect::<Vec<_>>().join("; ");
    if rest > 0 {
        text.push_str(&format!("; and {rest} more, shown when these are done"));
    }
    format!("{what}: the operator lacks the privileges to repair it; as a superuser, run: {text};")
}

impl Drift {
    /// What the owner role runs. Each statement is harmless where the drift is gone already.
    ///
    /// # Errors
    /// When a name can't be written into a statement.
    pub fn render_repair(&self, names: &RepairNames<'_>) -> Result<Vec<String>, QuoteError> {
        let Self::Owner { found, .. } = self else { return Ok(vec![self.render_remedy(names)?]) };
        // To take an object back one has to be its owner: for a moment the owner role is.
        let (found, owner) = (quote_ident(found)?, quote_ident(names.owner)?);
        let options = if names.modern { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        let remedy = self.render_remedy(names)?;
        Ok(vec![format!("GRANT {found} TO {owner}{options}"), remedy, format!("REVOKE {found} FROM {owner}")])
    }

    /// What a superuser runs.
    ///
    /// # Errors
    /// When a name can't be written into a statement.
    pub fn render_remedy(&self, names: &RepairNames<'_>) -> Result<String, QuoteError> {
        let (role, owner, access) = (quote_ident(names.role)?, quote_ident(names.owner)?, quote_ident(names.access)?);
        let grantee = |to: &Option<String>| match to {
            Some(name) => quote_ident(name),
            None => Ok("PUBLIC".to_owned()),
        };
        // The grantor has to be named from 16 on, unless it was the owner role, which the operator is.
        let by = |grantor: &str| match names.modern && grantor != names.owner {
            true => quote_ident(grantor).map(|grantor| format!(" GRANTED BY {grantor}")),
            false => Ok(String::new()),
        };
        Ok(match self {
            Self::Owner { of, .. } => format!("ALTER {} OWNER TO {owner}", object(of, names)?),
            Self::PrivilegeAdded { on, to, privileges } => {
                format!("REVOKE {} FROM {} CASCADE", privileges_on(privileges, on, names)?, grantee(to)?)
            }
            Self::GrantOption { on, to, privileges } => {
                format!(
                    "REVOKE GRANT OPTION FOR {} FROM {} CASCADE",
                    privileges_on(privileges, on, names)?,
                    quote_ident(to)?
                )
            }
            Self::PrivilegeLost { on, from, privileges } => {
                format!("GRANT {} TO {}", privileges_on(privileges, on, names)?, quote_ident(from)?)
            }
            Self::DefaultPrivilege { on, to } => {
                let schema = quote_ident(names.schema)?;
                let to = grantee(to)?;
                format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} REVOKE ALL ON {on} FROM {to} CASCADE"
                )
            }
            Self::MemberLost => grant_access(&role, &access, names),
            // A second grant, beside the operator's own.
            Self::MemberOptions { grantor, .. } if names.modern && grantor != names.owner => {
                format!("REVOKE {role} FROM {access}{} CASCADE", by(grantor)?)
            }
            Self::MemberOptions { added, .. } => {
                let grant = grant_access(&role, &access, names);
                match added.contains(&MemberOption::Admin) {
                    true => format!("REVOKE ADMIN OPTION FOR {role} FROM {access} CASCADE; {grant}"),
                    false => grant,
                }
            }
            Self::MemberAdded { member, grantor } => {
                format!("REVOKE {role} FROM {}{} CASCADE", quote_ident(member)?, by(grantor)?)
            }
            Self::MemberOf { group, grantor } => {
                format!("REVOKE {} FROM {role}{} CASCADE", quote_ident(group)?, by(grantor)?)
            }
            Self::AdminLost => format!("GRANT {role} TO {owner} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"),
            Self::Attribute(attribute) => format!("ALTER ROLE {role} {}", without(*attribute)),
            Self::Setting { name, database } => {
                let parts = name.split('.').map(quote_ident).collect::<Result<Vec<_>, _>>()?;
                let within = match database {
                    Some(database) => format!(" IN DATABASE {}", quote_ident(database)?),
                    None => String::new(),
                };
                format!("ALTER ROLE {role}{within} RESET {}", parts.join("."))
            }
            Self::RoleMark => format!("COMMENT ON ROLE {role} IS {}", quote_literal(names.mark)?),
            Self::SchemaMark => {
                format!("COMMENT ON SCHEMA {} IS {}", quote_ident(names.schema)?, quote_literal(names.mark)?)
            }
        })
    }
}

fn grant_access(role: &str, access: &str, names: &RepairNames<'_>) -> String {
    let options = if names.modern { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    format!("GRANT {role} TO {access}{options}")
}

/// `TABLE "at_acme"."messages"`.
fn object(place: &Place, names: &RepairNames<'_>) -> Result<String, QuoteError> {
    let schema = quote_ident(names.schema)?;
    Ok(match place {
        Place::Schema => format!("SCHEMA {schema}"),
        Place::Table(table) | Place::Column { table, .. } => format!("TABLE {schema}.{}", quote_ident(table)?),
        Place::Sequence(sequence) => format!("SEQUENCE {schema}.{}", quote_ident(sequence)?),
    })
}

/// `SELECT, INSERT ON TABLE "at_acme"."messages"`.
fn privileges_on(privileges: &[&'static str], place: &Place, names: &RepairNames<'_>) -> Result<String, QuoteError> {
    let column = match place {
        Place::Column { column, .. } => format!(" ({})", quote_ident(column)?),
        Place::Schema | Place::Table(_) | Place::Sequence(_) => String::new(),
    };
    let list: Vec<String> = privileges.iter().map(|privilege| format!("{privilege}{column}")).collect();
    Ok(format!("{} ON {}", list.join(", "), object(place, names)?))
}

/// What takes an attribute away.
const fn without(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::Superuser => "NOSUPERUSER",
        Attribute::CreateRole => "NOCREATEROLE",
        Attribute::CreateDb => "NOCREATEDB",
        Attribute::Login => "NOLOGIN PASSWORD NULL",
        Attribute::Replication => "NOREPLICATION",
        Attribute::BypassRls => "NOBYPASSRLS",
        Attribute::Inherit => "NOINHERIT",
        Attribute::ConnectionLimit => "CONNECTION LIMIT -1",
        Attribute::ValidUntil => "VALID UNTIL 'infinity'",
    }
}
