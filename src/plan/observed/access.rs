//! What the catalogs say of a tenant's role, schema and tables: read in the same round trip as the ledger row.

use crate::domain::migrations::Grant;
use serde::Deserialize;

/// First version in which a membership has options and a grantor that counts, and CREATEROLE is bounded.
pub(crate) const MODERN: i32 = 160_000;

/// Role, schema and tables of one tenant that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AccessFacts {
    /// `server_version_num`.
    pub server_version: i32,
    /// The cell's owner role, which has to own everything.
    pub owner: String,
    /// The cell's access group: the one member that the tenant's role has to have.
    pub access: String,
    /// The owner role may administer the tenant's role. Before 16 always: CREATEROLE is enough there.
    pub administered: bool,
    /// Attributes of the tenant's role.
    pub role: RoleAttributes,
    /// `ALTER ROLE … SET`, in every database.
    pub settings: Vec<SettingFacts>,
    /// The members of the tenant's role.
    pub members: Vec<MembershipFacts>,
    /// What the tenant's role is a member of.
    pub groups: Vec<MembershipFacts>,
    /// The schema.
    pub schema: ObjectFacts,
    /// Those of the tables that the migrations make which are there.
    pub tables: Vec<TableFacts>,
    /// Privileges on what the owner role will make in the schema.
    pub defaults: Vec<DefaultFacts>,
}

/// Attributes of a role, as in `pg_roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct RoleAttributes {
    /// SUPERUSER.
    pub superuser: bool,
    /// CREATEROLE.
    pub createrole: bool,
    /// CREATEDB.
    pub createdb: bool,
    /// LOGIN.
    pub login: bool,
    /// REPLICATION.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypassrls: bool,
    /// INHERIT.
    pub inherit: bool,
    /// CONNECTION LIMIT; -1 is none.
    pub connections: i32,
    /// It has a VALID UNTIL.
    pub expires: bool,
}

/// A setting of a role.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SettingFacts {
    /// Its name.
    pub name: String,
    /// In this database only.
    pub database: Option<String>,
    /// Everybody may change this setting. One that only superusers may set, only they take away.
    pub ordinary: bool,
}

/// One row of `pg_auth_members`, seen from one of its two sides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MembershipFacts {
    /// The role on the other side.
    pub role: String,
    /// That role is a superuser.
    pub superuser: bool,
    /// Its grantor. Before 16 that means nothing.
    pub grantor: String,
    /// ADMIN OPTION.
    pub admin: bool,
    /// INHERIT OPTION; before 16 false.
    pub inherit: bool,
    /// SET OPTION; before 16 true.
    pub set: bool,
}

/// Owner and privileges of a schema or sequence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ObjectFacts {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// The cell's owner role is the owner, or can make itself a member of it.
    pub reachable: bool,
    /// Its access control list, each item as Postgres writes it; `None` is the default one.
    pub acl: Option<Vec<String>>,
}

/// Owner and privileges of a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TableFacts {
    /// The table.
    #[serde(flatten)]
    pub object: ObjectFacts,
    /// Those of its columns that have privileges of their own.
    pub columns: Vec<ColumnFacts>,
    /// The sequences of its columns.
    pub sequences: Vec<ObjectFacts>,
}

/// A column with privileges of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its access control list.
    pub acl: Vec<String>,
}

/// Privileges on what will be made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DefaultFacts {
    /// `pg_default_acl.defaclobjtype`.
    pub kind: String,
    /// The access control list.
    pub acl: Vec<String>,
}

impl AccessFacts {
    /// What provisioning leaves behind: no drift. `name` is the tenant's schema and role.
    pub fn intact(server_version: i32, owner: &str, access: &str, name: &str, grants: &[Grant]) -> Self {
        let modern = server_version >= MODERN;
        let object = |object: &str, acl: Vec<String>| ObjectFacts {
            name: object.to_owned(),
            owner: owner.to_owned(),
            reachable: true,
            acl: Some(acl),
        };
        let member = |role: &str, grantor: &str, admin, set| MembershipFacts {
            role: role.to_owned(),
            superuser: false,
            grantor: grantor.to_owned(),
            admin,
            inherit: false,
            set,
        };
        let letters = |grant: &Grant| -> String {
            grant
                .privileges
                .iter()
                .map(|p| match *p {
                    "SELECT" => 'r',
                    "INSERT" => 'a',
                    "UPDATE" => 'w',
                    _ => 'd',
                })
                .collect()
        };
        let table = |grant: &Grant| TableFacts {
            object: object(
                &grant.table,
                vec![format!("{owner}=arwdDxt/{owner}"), format!("\"{name}\"={}/{owner}", letters(grant))],
            ),
            columns: Vec::new(),
            sequences: Vec::new(),
        };
        let made = modern.then(|| member(owner, "postgres", true, false));
        Self {
            server_version,
            owner: owner.to_owned(),
            access: access.to_owned(),
            administered: true,
            role: RoleAttributes {
                superuser: false,
                createrole: false,
                createdb: false,
                login: false,
                replication: false,
                bypassrls: false,
                inherit: false,
                connections: -1,
                expires: false,
            },
            settings: Vec::new(),
            members: made.into_iter().chain([member(access, owner, false, true)]).collect(),
            groups: Vec::new(),
            schema: object(name, vec![format!("{owner}=UC/{owner}"), format!("\"{name}\"=U/{owner}")]),
            tables: grants.iter().map(table).collect(),
            defaults: Vec::new(),
        }
    }
}
