//! What only one tenant may have: a schema, a role, a kid, the bytes of a key. Whoever was loaded first keeps it.

use crate::domain::{
    entry::TenantEntry,
    ident::TenantId,
    keys::{Kid, can_verify},
};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::{BTreeSet, HashMap};

/// Something that only one tenant may have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A schema of a database.
    Schema(String, String),
    /// A role of a database.
    Role(String, String),
    /// A key's id.
    Kid(Kid),
    /// A key's bytes, as a hash.
    Key([u8; 32]),
}

impl Claim {
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

/// Who has what.
#[derive(Default)]
pub struct Claims {
    owners: HashMap<Claim, TenantId>,
}

/// What an entry claims, or why it can't be loaded at all.
pub fn resolve_claims(entry: &TenantEntry) -> Result<BTreeSet<Claim>, String> {
    let location = &entry.database.location;
    let mut claims = BTreeSet::from([
        Claim::Schema(location.instance.clone(), location.schema.clone()),
        Claim::Role(location.instance.clone(), location.role.clone()),
    ]);
    for key in &entry.keys {
        if !can_verify(key.algorithm, &key.key) {
            return Err(format!("the key '{}' does not fit the algorithm {}", key.kid, key.algorithm.as_str()));
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key.key.expose()).as_ref());
        if !claims.insert(Claim::Kid(key.kid.clone())) || !claims.insert(Claim::Key(hash)) {
            return Err(format!("the key '{}' is listed twice", key.kid));
        }
    }
    Ok(claims)
}

impl Claims {
    /// Whether a tenant may have all this; otherwise what another one has.
    pub fn check(&self, tenant: &TenantId, claims: &BTreeSet<Claim>) -> Result<(), String> {
        for claim in claims {
            if let Some(owner) = self.owners.get(claim)
                && owner != tenant
            {
                return Err(format!("the tenant '{owner}' already has {}", claim.describe()));
            }
        }
        Ok(())
    }

    /// Gives a tenant `new` instead of `old`. Returns whether something became free.
    pub fn replace(&mut self, tenant: &TenantId, old: &BTreeSet<Claim>, new: &BTreeSet<Claim>) -> bool {
        let mut freed = false;
        for claim in old.difference(new) {
            freed |= self.owners.remove(claim).is_some();
        }
        for claim in new.difference(old) {
            self.owners.insert(claim.clone(), tenant.clone());
        }
        freed
    }
}
