//! Judging the facts: each way in which they differ from what provisioning makes.

use super::{
    Attribute, Drift, Finding, MemberOption, Place,
    privileges::{Privileges, PrivilegesError, parse_acl},
};
use crate::domain::{cells::keeper_role, migrations::Grant};
use crate::plan::observed::access::{AccessFacts, MODERN, MembershipFacts, ObjectFacts, TableFacts};
use std::collections::{BTreeMap, BTreeSet};

/// What every owner has by itself. MAINTAIN (17) is left out: an upgraded database need not have it.
const TABLE_PRIVILEGES: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
const SCHEMA_PRIVILEGES: [&str; 2] = ["USAGE", "CREATE"];
const SEQUENCE_PRIVILEGES: [&str; 3] = ["SELECT", "UPDATE", "USAGE"];

/// A table that the migrations make and that is not there: with it went data.
pub fn find_lost_table<'a>(facts: &AccessFacts, grants: &'a [Grant]) -> Option<&'a str> {
    let there: BTreeSet<&str> = facts.tables.iter().map(|t| t.object.name.as_str()).collect();
    grants.iter().map(|grant| grant.table.as_str()).find(|table| !there.contains(table))
}

/// Everything that differs, in the order in which it is repaired. `role` is the tenant's; `in_service` says that the
/// access group has to be its member; `grants` are those of the version that its tables have.
///
/// # Errors
/// When an access control list can't be understood.
pub fn judge_access(
    facts: &AccessFacts,
    role: &str,
    in_service: bool,
    grants: &[Grant],
) -> Result<Vec<Finding>, PrivilegesError> {
    let mut judge = Judge { facts, role, found: Vec::new() };
    let inside = judge.owner(Place::Schema, &facts.schema, true);
    let barred = facts.members.iter().any(|member| judge.is_kept(member, in_service));
    let usage = if barred { BTreeSet::new() } else { BTreeSet::from(["USAGE"]) };
    judge.privileges(Place::Schema, &facts.schema, &SCHEMA_PRIVILEGES, &usage, inside)?;
    // A table of a later version is not there yet: one of its name is somebody else's.
    for table in facts.tables.iter().filter(|t| grants.iter().any(|g| g.table == t.object.name)) {
        let named = grants.iter().filter(|g| g.table == table.object.name);
        let named = named.flat_map(|g| g.privileges.iter().copied()).filter(|_| !barred).collect();
        judge.table(table, &named, inside)?;
    }
    for default in &facts.defaults {
        let on = match default.kind.as_str() {
            "r" => "TABLES",
            "S" => "SEQUENCES",
            "f" => "FUNCTIONS",
            "T" => "TYPES",
            _ => continue,
        };
        for (to, _) in parse_acl(&default.acl, |name| name)? {
            judge.found(Drift::DefaultPrivilege { on, to: grantee(to) }, inside);
        }
    }
    judge.memberships(in_service);
    judge.attributes();
    Ok(judge.found)
}

fn grantee(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

struct Judge<'a> {
    facts: &'a AccessFacts,
    role: &'a str,
    found: Vec<Finding>,
}

impl Judge<'_> {
    fn found(&mut self, drift: Drift, repairable: bool) {
        self.found.push(Finding { drift, repairable });
    }

    fn modern(&self) -> bool {
        self.facts.server_version >= MODERN
    }

    /// Whether privileges on the object can be repaired: the owner role owns it, or can become its owner again.
    fn owner(&mut self, of: Place, object: &ObjectFacts, inside: bool) -> bool {
        if object.owner == self.facts.owner {
            return inside;
        }
        let repairable = inside && object.reachable;
        self.found(Drift::Owner { of, found: object.owner.clone() }, repairable);
        repairable
    }

    fn table(
        &mut self,
        table: &TableFacts,
        named: &BTreeSet<&'static str>,
        inside: bool,
    ) -> Result<(), PrivilegesError> {
        let object = &table.object;
        let place = Place::Table(object.name.clone());
        let ours = self.owner(place.clone(), object, inside);
        self.privileges(place, object, &TABLE_PRIVILEGES, named, ours)?;
        for column in &table.columns {
            let on = Place::Column { table: object.name.clone(), column: column.name.clone() };
            for (to, privileges) in parse_acl(&column.acl, |name| self.rename(&object.owner, name))? {
                let privileges = privileges.into_keys().collect();
                self.found(Drift::PrivilegeAdded { on: on.clone(), to: grantee(to), privileges }, ours);
            }
        }
        for sequence in &table.sequences {
            let place = Place::Sequence(sequence.name.clone());
            // Its owner is the table's, always.
            let sequence = ObjectFacts { owner: self.facts.owner.clone(), ..sequence.clone() };
            self.privileges(place, &sequence, &SEQUENCE_PRIVILEGES, &BTreeSet::new(), ours)?;
        }
        Ok(())
    }

    /// With the owner, an object's privileges change hands: as they will be once it is ours again.
    fn rename(&self, owner: &str, name: String) -> String {
        if name == owner { self.facts.owner.clone() } else { name }
    }

    fn privileges(
        &mut self,
        on: Place,
        object: &ObjectFacts,
        own: &[&'static str],
        named: &BTreeSet<&'static str>,
        repairable: bool,
    ) -> Result<(), PrivilegesError> {
        let owner = &self.facts.owner;
        let mut list = match &object.acl {
            Some(items) => parse_acl(items, |name| self.rename(&object.owner, name))?,
            None => BTreeMap::from([(owner.clone(), own.iter().map(|r| (*r, false)).collect())]),
        };
        let owners = list.remove(owner).unwrap_or_default();
        let tenants = list.remove(self.role).unwrap_or_default();
        for (to, privileges) in list {
            let privileges = privileges.into_keys().collect();
            self.found(Drift::PrivilegeAdded { on: on.clone(), to: grantee(to), privileges }, repairable);
        }
        let (role, owner) = (self.role.to_owned(), owner.clone());
        let pick = |privileges: &Privileges, wanted: &dyn Fn(&str, bool) -> bool| -> Vec<&'static str> {
            privileges
                .iter()
                .filter(|(privilege, option)| wanted(privilege, **option))
                .map(|(privilege, _)| *privilege)
                .collect()
        };
        let added = pick(&tenants, &|privilege, _| !named.contains(privilege));
        let optional = pick(&tenants, &|privilege, option| option && named.contains(privilege));
        let missing = |wanted: &mut dyn Iterator<Item = &'static str>, has: &Privileges| -> Vec<&'static str> {
            wanted.filter(|privilege| !has.contains_key(privilege)).collect()
        };
        let owner_lost = missing(&mut own.iter().copied(), &owners);
        let role_lost = missing(&mut named.iter().copied(), &tenants);
        let some = |privileges: &Vec<&'static str>| !privileges.is_empty();
        if some(&added) {
            self.found(Drift::PrivilegeAdded { on: on.clone(), to: Some(role.clone()), privileges: added }, repairable);
        }
        if some(&optional) {
            self.found(Drift::GrantOption { on: on.clone(), to: role.clone(), privileges: optional }, repairable);
        }
        if some(&owner_lost) {
            self.found(Drift::PrivilegeLost { on: on.clone(), from: owner, privileges: owner_lost }, repairable);
        }
        if some(&role_lost) {
            self.found(Drift::PrivilegeLost { on, from: role, privileges: role_lost }, repairable);
        }
        Ok(())
    }

    fn memberships(&mut self, in_service: bool) {
        let facts = self.facts;
        // Nobody but a superuser gives or takes membership of a superuser's role.
        let governed = !facts.role.superuser && facts.administered;
        if !facts.administered {
            self.found(Drift::AdminLost, false);
        }
        let ours = |member: &MembershipFacts| !self.modern() || member.grantor == facts.owner;
        let group = |member: &&MembershipFacts| member.role == facts.access && in_service;
        // Without privileges such a membership of a suspended tenant's role reaches nothing.
        let kept = |member: &&MembershipFacts| self.is_kept(member, in_service);
        let keeper = keeper_role(facts.owner.split('_').next().unwrap_or_default());
        // The owner role may do as it likes with the role anyway; from 16 on, having made it, it is listed.
        let others: Vec<&MembershipFacts> = facts
            .members
            .iter()
            .filter(|m| m.role != facts.owner && m.role != keeper && !group(m) && !kept(m))
            .collect();
        let going = self.going(governed);
        let mut found = Vec::new();
        for member in others {
            // A membership ends with the membership of its grantor.
            if self.modern() && going.contains(member.grantor.as_str()) {
                continue;
            }
            let (role, grantor) = (member.role.clone(), member.grantor.clone());
            found.push((Drift::MemberAdded { member: role, grantor }, governed && ours(member)));
        }
        let members: Vec<&MembershipFacts> = facts.members.iter().filter(group).collect();
        for member in &members {
            let mut added = Vec::new();
            added.extend(member.inherit.then_some(MemberOption::Inherit));
            added.extend(member.admin.then_some(MemberOption::Admin));
            // Several grants count together: one that gives SET is enough.
            let lost: Vec<_> =
                (ours(member) && !members.iter().any(|m| m.set)).then_some(MemberOption::Set).into_iter().collect();
            if !added.is_empty() || !lost.is_empty() {
                let grantor = member.grantor.clone();
                found.push((Drift::MemberOptions { added, lost, grantor }, governed && ours(member)));
            }
        }
        if in_service && !members.iter().any(|m| m.set || ours(m)) {
            found.push((Drift::MemberLost, governed));
        }
        for group in &facts.groups {
            let repairable = !group.superuser && ours(group);
            let (group, grantor) = (group.role.clone(), group.grantor.clone());
            found.push((Drift::MemberOf { group, grantor }, repairable));
        }
        for (drift, repairable) in found {
            self.found(drift, repairable);
        }
    }

    /// Whether it is the access group's membership of a suspended tenant's role that the operator can't revoke, because
    /// another role granted it: since an upgrade of the server.
    fn is_kept(&self, member: &MembershipFacts, in_service: bool) -> bool {
        let ours = !self.modern() || member.grantor == self.facts.owner;
        !in_service && member.role == self.facts.access && !ours
    }

    /// Members that lose what they could grant on, by what the operator can take away.
    fn going(&self, governed: bool) -> BTreeSet<&str> {
        let facts = self.facts;
        let loses = |m: &&MembershipFacts| {
            m.role != facts.owner && m.grantor == facts.owner && (m.role != facts.access || m.admin)
        };
        let mut going: BTreeSet<&str> = BTreeSet::new();
        if governed {
            going.extend(facts.members.iter().filter(loses).map(|m| m.role.as_str()));
        }
        loop {
            let next = |m: &&MembershipFacts| going.contains(m.grantor.as_str()) && !going.contains(m.role.as_str());
            let Some(member) = facts.members.iter().find(next) else { return going };
            going.insert(&member.role);
        }
    }

    fn attributes(&mut self) {
        let (facts, modern) = (self.facts, self.modern());
        let role = &facts.role;
        let governed = !role.superuser && facts.administered;
        // Before 16 a role that may replicate can only be altered by a superuser.
        let alterable = governed && (modern || !role.replication);
        for (is_set, attribute, repairable) in [
            (role.superuser, Attribute::Superuser, false),
            (role.replication, Attribute::Replication, false),
            (role.bypassrls, Attribute::BypassRls, false),
            // From 16 on only a role with CREATEDB takes it away.
            (role.createdb, Attribute::CreateDb, alterable && !modern),
            (role.createrole, Attribute::CreateRole, alterable),
            (role.login, Attribute::Login, alterable),
            (role.inherit, Attribute::Inherit, alterable),
            (role.connections != -1, Attribute::ConnectionLimit, alterable),
            (role.expires, Attribute::ValidUntil, alterable),
        ] {
            if is_set {
                self.found(Drift::Attribute(attribute), repairable);
            }
        }
        for setting in &facts.settings {
            let drift = Drift::Setting { name: setting.name.clone(), database: setting.database.clone() };
            self.found(drift, governed && setting.ordinary);
        }
    }
}
