//! Facts in, findings out.

use super::{privileges::parse_acl, *};
use crate::domain::migrations::Grant;

const OWNER: &str = "at_own_1";
const ACCESS: &str = "at_acc_1";
const ROLE: &str = "at_acme-1";

fn grants() -> Vec<Grant> {
    let grant = |table: &str, privileges: &[&'static str]| Grant { privileges: privileges.into(), table: table.into() };
    vec![grant("messages", &["SELECT", "INSERT", "UPDATE", "DELETE"]), grant("usage", &["SELECT", "INSERT"])]
}

fn intact(version: i32) -> AccessFacts {
    AccessFacts::intact(version, OWNER, ACCESS, ROLE, &grants())
}

fn table<'a>(facts: &'a mut AccessFacts, name: &str) -> &'a mut TableFacts {
    facts.tables.iter_mut().find(|t| t.object.name == name).unwrap()
}

fn give(object: &mut ObjectFacts, item: &str) {
    object.acl.as_mut().unwrap().push(item.to_owned());
}

fn member(role: &str, grantor: &str) -> MembershipFacts {
    let (role, grantor) = (role.to_owned(), grantor.to_owned());
    MembershipFacts { role, superuser: false, grantor, admin: false, inherit: false, set: true }
}

/// What is found, in words; what can't be repaired with an exclamation mark.
fn messages(facts: &AccessFacts) -> Vec<String> {
    let found = judge_access(facts, ROLE, true, &grants()).unwrap();
    found.iter().map(|f| format!("{}{}", if f.repairable { "" } else { "! " }, f.drift)).collect()
}

#[test]
fn what_provisioning_leaves_is_no_drift() {
    for version in [150_018, 180_006] {
        assert_eq!(messages(&intact(version)), Vec::<String>::new());
        assert_eq!(find_lost_table(&intact(version), &grants()), None);
        let mut facts = intact(version);
        // A privilege of a Postgres to come, and MAINTAIN, which an upgraded owner has or has not.
        facts.tables[0].object.acl.as_mut().unwrap()[0] = format!("{OWNER}=arwdDxtmZ/{OWNER}");
        assert_eq!(messages(&facts), Vec::<String>::new());
    }
    let mut facts = intact(180_006);
    facts.tables.retain(|t| t.object.name != "messages");
    assert_eq!(find_lost_table(&facts, &grants()), Some("messages"));
}

type Case = (&'static str, fn(&mut AccessFacts), &'static [&'static str]);

#[test]
fn each_change_is_reported_and_judged_by_the_role_that_can_undo_it() {
    let cases: &[Case] = &[
        (
            "privileges of PUBLIC and of others",
            |f| {
                give(&mut f.schema, "=U/at_own_1");
                give(&mut table(f, "usage").object, "\"odd \"\"one\"\"\"=r*w/at_own_1");
            },
            &["USAGE on the schema given to PUBLIC", "SELECT, UPDATE on table usage given to 'odd \"one\"'"],
        ),
        (
            "no list at all is the default one: everything for the owner",
            |f| table(f, "usage").object.acl = None,
            &["INSERT, SELECT on table usage taken from 'at_acme-1'"],
        ),
        (
            "the owner's own privileges",
            |f| f.schema.acl.as_mut().unwrap()[0] = "at_own_1=U/at_own_1".to_owned(),
            &["CREATE on the schema taken from 'at_own_1'"],
        ),
        (
            "a table that others own goes with its privileges",
            |f| {
                let table = table(f, "usage");
                table.object.owner = "evil".to_owned();
                table.object.acl = Some(vec!["evil=arwdDxt/evil".to_owned(), "\"at_acme-1\"=ar/evil".to_owned()]);
                table.columns = vec![ColumnFacts { name: "sub".to_owned(), acl: vec!["=r/evil".to_owned()] }];
            },
            &["table usage owned by 'evil'", "SELECT on column usage.sub given to PUBLIC"],
        ),
        (
            "a schema out of reach keeps everything in it out of reach",
            |f| {
                f.schema.owner = "postgres".to_owned();
                f.schema.reachable = false;
                f.schema.acl = None;
                give(&mut table(f, "usage").object, "=r/at_own_1");
                let acl = vec!["=r/at_own_1".to_owned()];
                f.defaults = vec![DefaultFacts { kind: "r".to_owned(), acl }];
            },
            &[
                "! the schema owned by 'postgres'",
                "! USAGE on the schema taken from 'at_acme-1'",
                "! SELECT on table usage given to PUBLIC",
                "! default privileges on new tables given to PUBLIC",
            ],
        ),
        (
            "a member with members of its own: both go with one revocation",
            |f| {
                f.members.push(MembershipFacts { admin: true, ..member("evil", OWNER) });
                f.members.push(member("evil_2", "evil"));
                f.members.push(member("evil_3", "evil_2"));
            },
            &["'evil' made a member of the role"],
        ),
        (
            "what a superuser granted only a superuser revokes",
            |f| {
                f.members.push(member("evil", "postgres"));
                f.groups.push(member("pg_monitor", "postgres"));
            },
            &["! 'evil' made a member of the role", "! the role made a member of 'pg_monitor'"],
        ),
        (
            "the access group got it from somebody else, with too much",
            |f| {
                f.members.retain(|m| m.role != ACCESS);
                f.members.push(MembershipFacts { inherit: true, ..member(ACCESS, "postgres") });
            },
            &["! membership of the agent API's group with INHERIT"],
        ),
        (
            "the access group may not become the role",
            |f| f.members.iter_mut().for_each(|m| m.set = false),
            &["membership of the agent API's group without SET"],
        ),
        (
            "the access group is out",
            |f| f.members.retain(|m| m.role != ACCESS),
            &["the agent API's group taken out of the role"],
        ),
        (
            "a superuser's role is beyond us",
            |f| {
                f.role.superuser = true;
                f.role.login = true;
                f.members.push(member("evil", OWNER));
            },
            &["! 'evil' made a member of the role", "! the role given SUPERUSER", "! the role given LOGIN"],
        ),
        (
            "attributes that only a role with them takes away",
            |f| {
                f.role.createdb = true;
                f.role.bypassrls = true;
                f.role.connections = 3;
            },
            &["! the role given BYPASSRLS", "! the role given CREATEDB", "the role given CONNECTION LIMIT"],
        ),
        (
            "settings",
            |f| {
                let setting = |name: &str, ordinary| SettingFacts {
                    name: name.to_owned(),
                    database: Some("app".to_owned()),
                    ordinary,
                };
                f.settings = vec![setting("search_path", true), setting("log_statement", false)];
            },
            &["search_path set for the role in database 'app'", "! log_statement set for the role in database 'app'"],
        ),
        (
            "the owner role administers it no more",
            |f| f.administered = false,
            &["! the owner role may not administer the role any more"],
        ),
    ];
    for (name, change, expected) in cases {
        let mut facts = intact(180_006);
        change(&mut facts);
        assert_eq!(messages(&facts), *expected, "{name}");
    }
}

#[test]
fn before_16_createrole_is_enough_for_nearly_everything() {
    let mut facts = intact(150_018);
    facts.members.push(member("evil", "postgres"));
    facts.groups.push(member("pg_monitor", "postgres"));
    facts.role.createdb = true;
    let expected =
        ["'evil' made a member of the role", "the role made a member of 'pg_monitor'", "the role given CREATEDB"];
    assert_eq!(messages(&facts), expected);
    facts.role.replication = true;
    assert!(messages(&facts).contains(&"! the role given CREATEDB".to_owned()), "not of a role that may replicate");
}

#[test]
fn a_suspended_tenant_has_no_member_but_its_maker() {
    let facts = intact(180_006);
    let found = judge_access(&facts, ROLE, false, &grants()).unwrap();
    assert_eq!(found.iter().map(|f| f.drift.to_string()).collect::<Vec<_>>(), ["'at_acc_1' made a member of the role"]);
}

#[test]
fn items_are_read_as_postgres_writes_them() {
    let read = |item: &str| parse_acl(&[item.to_owned()], |name| name);
    for (item, name) in [("=r/a", ""), ("a_1=r/a", "a_1"), ("\"a-1\"=r/a", "a-1"), ("\"a\"\"=/b\"=r/\"c=d\"", "a\"=/b")]
    {
        let list = read(item).unwrap();
        assert_eq!(list.keys().collect::<Vec<_>>(), [name], "{item}");
        assert_eq!(list[name].iter().collect::<Vec<_>>(), [(&"SELECT", &false)], "{item}");
    }
    for wrong in ["", "a", "a=r", "\"a=r/b", "\"a\"r/b"] {
        assert_eq!(read(wrong), Err(PrivilegesError(wrong.to_owned())));
    }
}

#[test]
fn statements_quote_every_name() {
    let odd = "o\"dd; DROP".to_owned();
    let names = RepairNames { schema: &odd, role: &odd, owner: OWNER, access: ACCESS, mark: "it's", modern: true };
    let column = Place::Column { table: odd.clone(), column: odd.clone() };
    let drift = Drift::PrivilegeAdded { on: column, to: Some(odd.clone()), privileges: vec!["SELECT"] };
    let quoted = "\"o\"\"dd; DROP\"";
    let expected = format!("REVOKE SELECT ({quoted}) ON TABLE {quoted}.{quoted} FROM {quoted} CASCADE");
    assert_eq!(drift.render_repair(&names).unwrap(), [expected]);
    let drift = Drift::Owner { of: Place::Schema, found: odd.clone() };
    let expected = [
        format!("GRANT {quoted} TO \"at_own_1\" WITH INHERIT TRUE, SET TRUE"),
        format!("ALTER SCHEMA {quoted} OWNER TO \"at_own_1\""),
        format!("REVOKE {quoted} FROM \"at_own_1\""),
    ];
    assert_eq!(drift.render_repair(&names).unwrap(), expected);
    let drift = Drift::Setting { name: "my.var".to_owned(), database: None };
    assert_eq!(drift.render_remedy(&names).unwrap(), format!("ALTER ROLE {quoted} RESET \"my\".\"var\""));
}

#[test]
fn a_long_list_is_cut() {
    let many: Vec<Drift> = (0..40).map(|n| Drift::Owner { of: Place::Schema, found: format!("r{n}") }).collect();
    let text = render_list(many.iter());
    assert!(text.contains("'r7'") && !text.contains("'r8'") && text.ends_with("; and 32 more"), "{text}");
}
