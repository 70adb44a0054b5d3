//! Access control lists: reading items as Postgres writes them, and the keywords behind their letters
//! (PostgreSQL manual, 5.8, table 5.1).

use std::collections::BTreeMap;

/// Letter and keyword of every right on schemas, tables, columns and sequences.
const RIGHTS: [(char, &str); 12] = [
    ('r', "SELECT"),
    ('a', "INSERT"),
    ('w', "UPDATE"),
    ('d', "DELETE"),
    ('D', "TRUNCATE"),
    ('x', "REFERENCES"),
    ('t', "TRIGGER"),
    ('m', "MAINTAIN"),
    ('U', "USAGE"),
    ('C', "CREATE"),
    ('s', "SET"),
    ('X', "EXECUTE"),
];

/// An item that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an item of an access control list")]
pub struct PrivilegesError(pub String);

/// What one grantee has: right by right, whether it may be granted on.
pub(super) type Privileges = BTreeMap<&'static str, bool>;

/// Reads a list: what each grantee has, by name; PUBLIC is the empty name. `rename` says under which name a role counts.
pub(super) fn parse_acl(
    items: &[String],
    rename: impl Fn(String) -> String,
) -> Result<BTreeMap<String, Privileges>, PrivilegesError> {
    let mut list: BTreeMap<String, Privileges> = BTreeMap::new();
    for item in items {
        let wrong = || PrivilegesError(item.clone());
        let (name, rest) = split_name(item).ok_or_else(wrong)?;
        let (letters, _grantor) = rest.split_once('/').ok_or_else(wrong)?;
        let privileges = list.entry(rename(name)).or_default();
        let mut letters = letters.chars().peekable();
        while let Some(letter) = letters.next() {
            let option = letters.next_if_eq(&'*').is_some();
            // One that a later Postgres knows is nothing that we could take away by name.
            if let Some((_, keyword)) = RIGHTS.iter().find(|(l, _)| *l == letter) {
                *privileges.entry(keyword).or_default() |= option;
            }
        }
    }
    Ok(list)
}

/// The grantee, and what follows the equals sign. Names that are not plain words are quoted, and quotes in them doubled.
fn split_name(item: &str) -> Option<(String, &str)> {
    let Some(mut rest) = item.strip_prefix('"') else {
        let (name, rest) = item.split_once('=')?;
        return Some((name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after.strip_prefix('=')?)),
        }
    }
}
