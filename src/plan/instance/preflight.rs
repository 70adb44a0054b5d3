//! Whether a database is fit for tenants, and what has to be done to its control schema. Every finding says what is
//! wrong and how to fix it.

use super::cells::CellFacts;
use crate::domain::{
    cells::base_role,
    ident::{DatabaseId, Epoch, NamePrefix},
    migrations::{CONTROL, CONTROL_VERSION},
};

/// Oldest supported server, as `server_version_num` (PostgreSQL 15).
pub const OLDEST_SERVER: i32 = 150_000;

/// What a database says of itself, of its roles and of PUBLIC.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct InstanceFacts {
    /// `server_version_num`.
    pub server_version: i32,
    /// Name of the database.
    pub database: String,
    /// The operator's login.
    pub login: RoleFacts,
    /// The base role; `None` if there is none.
    pub base: Option<RoleFacts>,
    /// The login may become base.
    pub may_set_base: bool,
    /// The login has base's privileges without becoming base.
    pub inherits_base: bool,
    /// Base may grant CREATE on the database.
    pub base_grants_create: bool,
    /// Base may grant CONNECT on the database.
    pub base_grants_connect: bool,
    /// PUBLIC may connect.
    pub public_connect: bool,
    /// PUBLIC may create temporary tables.
    pub public_temp: bool,
    /// PUBLIC may create schemas.
    pub public_create: bool,
    /// PUBLIC has some privilege on schema `public`.
    pub public_schema: bool,
    /// PUBLIC may make large objects.
    pub public_large_objects: bool,
    /// Its encoding.
    pub encoding: String,
    /// The collation of the database is another one than the one that its indexes were built with.
    pub collation_changed: bool,
    /// Event triggers that run with the operator's statements.
    pub event_triggers: Vec<String>,
    /// The role that keeps ADMIN options over an upgrade from 15 exists.
    pub keeper: bool,
    /// New transactions take no writes.
    pub read_only: bool,
    /// Owner of the control schema; `None` if there is none.
    pub control_owner: Option<String>,
    /// Content of the control schema; `None` if there is none or it could not be read.
    pub control: Option<ControlFacts>,
}

/// Attributes of a role.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// It is a superuser.
    pub superuser: bool,
    /// It may make roles.
    pub createrole: bool,
    /// It may log in.
    pub login: bool,
    /// New memberships of it are inherited.
    pub inherit: bool,
}

/// Content of the control schema.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct ControlFacts {
    /// Identity of the database.
    pub database_id: DatabaseId,
    /// Version and checksum of every migration that was applied, oldest first.
    pub migrations: Vec<(i32, String)>,
    /// This cluster's epoch, if a leader raised one.
    pub epoch: Option<Epoch>,
    /// Cells that are not as they were made.
    pub cells: Vec<CellFacts>,
}

/// What to do with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstancePlan {
    /// Use it.
    Fit {
        /// Identity of the database.
        database_id: DatabaseId,
        /// Logged at start, and in a condition.
        warnings: Vec<String>,
    },
    /// It can't be used until it is fixed.
    Unfit {
        /// What is wrong, and how to fix it.
        findings: Vec<String>,
    },
    /// It is another database than the one tenants live in: make nothing.
    Changed {
        /// The one that is expected.
        expected: DatabaseId,
        /// The one that answered; `None` if it has no control schema.
        found: Option<DatabaseId>,
    },
    /// New: make the control schema.
    CreateControlSchema,
    /// An older version of the program made the control schema: bring it up to date.
    MigrateControlSchema,
}

/// Decides. `expected` is the database id that `cell-` entries or Tenants recorded; `None` if nobody has one yet.
pub fn plan_instance(facts: &InstanceFacts, prefix: &NamePrefix, expected: Option<DatabaseId>) -> InstancePlan {
    if let Some(expected) = expected {
        // Judged before fitness: an empty database put in place of the real one is not "badly set up".
        match (&facts.control_owner, &facts.control) {
            (None, _) => return InstancePlan::Changed { expected, found: None },
            (Some(_), Some(control)) if control.database_id != expected => {
                return InstancePlan::Changed { expected, found: Some(control.database_id) };
            }
            (Some(_), Some(_) | None) => {}
        }
    }
    let Findings { stopping, mut others } = find_faults(facts, prefix);
    // A leader raises its epoch only in a database that was fit: it serves tenants, and what somebody changed in it since is
    // reported, but doesn't take it out of use.
    let was_fit = facts.control.as_ref().is_some_and(|control| control.epoch.is_some());
    let usable = stopping.is_empty() && (others.is_empty() || was_fit);
    if !usable {
        return InstancePlan::Unfit { findings: stopping.into_iter().chain(others).collect() };
    }
    let Some(control) = &facts.control else { return InstancePlan::CreateControlSchema };
    if (control.migrations.len() as i32) < CONTROL_VERSION {
        return InstancePlan::MigrateControlSchema;
    }
    others.extend(find_warnings(facts));
    InstancePlan::Fit { database_id: control.database_id, warnings: others }
}

/// What is wrong, in the order in which it is fixed.
fn find_faults(facts: &InstanceFacts, prefix: &NamePrefix) -> Findings {
    let base = base_role(prefix);
    let mut findings = Findings::default();
    findings.server_and_login(facts, prefix);
    findings.base(facts, &base);
    findings.public(facts);
    findings.control_schema(facts, &base);
    findings
}

/// Fixes most faults.
const BOOTSTRAP: &str = "run the bootstrap file as the database's owner or a superuser";

#[derive(Default)]
struct Findings {
    /// Nothing works with them.
    stopping: Vec<String>,
    /// Tenants can be served with them; no instance begins with them.
    others: Vec<String>,
}

impl Findings {
    fn unless(&mut self, good: bool, finding: String) {
        if !good {
            self.others.push(finding);
        }
    }

    fn stop_unless(&mut self, good: bool, finding: String) {
        if !good {
            self.stopping.push(finding);
        }
    }

    fn server_and_login(&mut self, facts: &InstanceFacts, prefix: &NamePrefix) {
        let login = &facts.login.name;
        self.stop_unless(
            facts.server_version >= OLDEST_SERVER,
            format!("the server is PostgreSQL {}; 15 or later is needed", facts.server_version / 10_000),
        );
        self.stop_unless(
            !facts.read_only,
            format!(
                "database {0} is read-only (default_transaction_read_only is on); as its owner ALTER DATABASE \"{0}\" RESET \
                 default_transaction_read_only, or the same for the login",
                facts.database
            ),
        );
        self.stop_unless(
            facts.encoding == "UTF8",
            format!(
                "database {0} has encoding {1}; UTF8 is needed, and an encoding can't be changed: create another one with \
                 CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
                facts.database, facts.encoding
            ),
        );
        self.unless(
            !facts.login.superuser,
            format!("the operator logs in as the superuser {login}; use {prefix}_operator_a or {prefix}_operator_b"),
        );
        self.unless(
            !facts.login.createrole,
            format!("login {login} may make roles itself; ALTER ROLE \"{login}\" NOCREATEROLE"),
        );
    }

    fn base(&mut self, facts: &InstanceFacts, base: &str) {
        let (login, database) = (&facts.login.name, &facts.database);
        let Some(role) = &facts.base else {
            return self.stopping.push(format!("role {base} does not exist; {BOOTSTRAP}"));
        };
        self.unless(!role.superuser, format!("role {base} is a superuser; ALTER ROLE \"{base}\" NOSUPERUSER"));
        self.unless(!role.login, format!("role {base} may log in; ALTER ROLE \"{base}\" NOLOGIN"));
        self.unless(role.createrole, format!("role {base} may not make roles; ALTER ROLE \"{base}\" CREATEROLE"));
        self.stop_unless(
            facts.may_set_base,
            format!("login {login} may not become {base}; GRANT \"{base}\" TO \"{login}\""),
        );
        self.unless(
            !facts.inherits_base || facts.login.superuser,
            format!(
                "login {login} inherits the privileges of {base}; ALTER ROLE \"{login}\" NOINHERIT, \
                 then REVOKE \"{base}\" FROM \"{login}\" and {BOOTSTRAP}"
            ),
        );
        for (granted, privilege) in [(facts.base_grants_create, "CREATE"), (facts.base_grants_connect, "CONNECT")] {
            self.unless(
                granted,
                format!(
                    "role {base} may not grant {privilege} on database {database}; \
                     GRANT {privilege} ON DATABASE \"{database}\" TO \"{base}\" WITH GRANT OPTION"
                ),
            );
        }
    }

    fn public(&mut self, facts: &InstanceFacts) {
        let database = &facts.database;
        for (held, privilege) in
            [(facts.public_connect, "CONNECT"), (facts.public_temp, "TEMPORARY"), (facts.public_create, "CREATE")]
        {
            self.unless(
                !held,
                format!(
                    "every role has {privilege} on database {database}; \
                     REVOKE {privilege} ON DATABASE \"{database}\" FROM PUBLIC, as its owner"
                ),
            );
        }
        self.unless(
            !facts.public_schema,
            "every role has privileges on schema public; REVOKE ALL ON SCHEMA public FROM PUBLIC, as its owner"
                .to_owned(),
        );
    }

    fn control_schema(&mut self, facts: &InstanceFacts, base: &str) {
        if let Some(owner) = &facts.control_owner {
            self.stop_unless(
                *owner == base,
                format!(
                    "schema agent_tenancy belongs to {owner}, not to {base}; another operator uses this database, or the \
                     prefix in the settings is wrong"
                ),
            );
        }
        let Some(control) = &facts.control else { return };
        let newest = control.migrations.last().map_or(0, |(version, _)| *version);
        self.stop_unless(
            newest <= CONTROL_VERSION,
            format!(
                "schema agent_tenancy has version {newest}, this program knows {CONTROL_VERSION}; run a newer version"
            ),
        );
        for (applied, known) in control.migrations.iter().zip(CONTROL) {
            self.stop_unless(
                *applied == (known.version, known.checksum()),
                format!("{} in schema agent_tenancy is not this program's; run the version that made it", known.name),
            );
        }
    }
}

fn find_warnings(facts: &InstanceFacts) -> Vec<String> {
    let mut warnings = Vec::new();
    if facts.server_version < 160_000 {
        warnings.push(
            "on PostgreSQL 15 a role that may make roles (CREATEROLE) is close to a superuser; 16 or later is \
             recommended"
                .to_owned(),
        );
    }
    // Only a superuser can fix it, and managed services provide none. Dropping a tenant removes its large objects.
    if facts.public_large_objects {
        warnings.push(
            "every role may make large objects, which no storage limit counts; run the bootstrap file as a superuser"
                .to_owned(),
        );
    }
    if facts.server_version < 160_000 && !facts.keeper {
        warnings.push(
            "after an upgrade to PostgreSQL 16 or later nobody but a superuser could administer the tenants' roles; run the \
             bootstrap file again before the upgrade"
                .to_owned(),
        );
    }
    warnings.extend(facts.control.iter().flat_map(|control| &control.cells).filter_map(CellFacts::find_fault));
    if facts.collation_changed {
        warnings.push(format!(
            "the collation of database {0} has another version than its indexes were built with, so that they may miss rows; \
             as its owner REINDEX DATABASE \"{0}\", then ALTER DATABASE \"{0}\" REFRESH COLLATION VERSION",
            facts.database
        ));
    }
    if !facts.event_triggers.is_empty() {
        warnings.push(format!(
            "event triggers run with the operator's statements and must let them pass: {}",
            facts.event_triggers.join(", ")
        ));
    }
    warnings
}
