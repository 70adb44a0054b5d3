//! Values that belong to one tenant only: a schema, a role, a kid, the bytes of a key. The tenant loaded first keeps them.

use crate::domain::{
    entry::TenantEntry,
    ident::TenantId,
    keys::{Kid, can_verify},
};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::{BTreeSet, HashMap};

/// A value that belongs to one tenant only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum UniqueValue {
    /// A schema of a database.
    Schema(String, String),
    /// A role of a database.
    Role(String, String),
    /// A key's id.
    Kid(Kid),
    /// A key's bytes, as a hash.
    Key([u8; 32]),
}

impl UniqueValue {
    /// What it is, for messages; never the value of a key.
    fn describe(&self) -> String {
        match self {
            Self::Schema(_, schema) => format!("the schema '{schema}'"),
            Self::Role(_, role) => format!("the role '{role}'"),
            Self::Kid(kid) => format!("the key id '{kid}'"),
            Self::Key(_) => "a key with the same bytes".to_owned(),
        }
    }
}

/// The owners of the values.
#[derive(Default)]
pub(super) struct UniqueValues {
    owners: HashMap<UniqueValue, TenantId>,
}

/// The values of an entry, or why it can't be loaded at all.
pub(super) fn resolve_unique_values(entry: &TenantEntry) -> Result<BTreeSet<UniqueValue>, String> {
    let location = &entry.database.location;
    let mut unique = BTreeSet::from([
        UniqueValue::Schema(location.instance.clone(), location.schema.clone()),
        UniqueValue::Role(location.instance.clone(), location.role.clone()),
    ]);
    for key in &entry.keys {
        if !can_verify(key.algorithm, &key.key) {
            return Err(format!("the key '{}' does not fit the algorithm {}", key.kid, key.algorithm.as_str()));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key.key.expose()).as_ref());
        if !unique.insert(UniqueValue::Kid(key.kid.clone())) || !unique.insert(UniqueValue::Key(hash)) {
            return Err(format!("the key '{}' is listed twice", key.kid));
        }
    }
    Ok(unique)
}

impl UniqueValues {
    /// Checks that no other tenant owns one of the values. The reason reaches the tenant's status, so it doesn't name the
    /// owner.
    pub(super) fn check(&self, tenant: &TenantId, unique: &BTreeSet<UniqueValue>) -> Result<(), String> {
        for value in unique {
            if let Some(owner) = self.owners.get(value)
                && owner != tenant
            {
                return Err(format!("another tenant already has {}", value.describe()));
            }
        }
        Ok(())
    }

    /// Gives a tenant `new` instead of `old`. Returns whether a value became free.
    pub(super) fn replace(
        &mut self,
        tenant: &TenantId,
        old: &BTreeSet<UniqueValue>,
        new: &BTreeSet<UniqueValue>,
    ) -> bool {
        let mut freed = false;
        for value in old.difference(new) {
            freed |= self.owners.remove(value).is_some();
        }
        for value in new.difference(old) {
            self.owners.insert(value.clone(), tenant.clone());
        }
        freed
    }
}
