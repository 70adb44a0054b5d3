//! Entries that tenants refer to: AgentConfigs, provider credentials, cells. For each the last good content,
//! the entries that refer to it, and whether it was deleted while still in use.

use crate::domain::{
    entry::{Entry, upstream_entry_name},
    ident::Version,
};
use std::collections::{BTreeSet, HashMap};

/// What is known about a shared entry.
#[derive(Default)]
pub(super) struct Shared {
    /// Version that was seen last.
    pub version: Version,
    /// The last good content; a cell's only after a login.
    pub good: Option<Entry>,
    /// Why the content seen last is not the good one.
    pub unused: Option<UnusedReason>,
    /// It was deleted although it is still in use.
    pub deleted: bool,
    /// Names of the entries that refer to it.
    pub users: BTreeSet<String>,
}

/// Why a shared entry's last content is not in use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum UnusedReason {
    /// It does not parse, or contradicts itself.
    Unreadable(String),
    /// It is a cell's login that is being tried.
    Trying(Box<Entry>),
    /// It can't be used: a cell's login failed, or an AgentConfig's credential is missing.
    Refused(Box<Entry>, String),
}

/// Whether a shared entry can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryReadiness {
    /// The content seen last is in use.
    Ready,
    /// It is being tried; wait.
    LoginPending,
    /// Something is wrong with it.
    Unusable(String),
}

impl Shared {
    /// Names of the entries that its good content and the content seen last refer to.
    pub(super) fn references(&self) -> BTreeSet<String> {
        let last = match &self.unused {
            Some(UnusedReason::Trying(entry) | UnusedReason::Refused(entry, _)) => Some(entry.as_ref()),
            Some(UnusedReason::Unreadable(_)) | None => None,
        };
        let upstream = |entry: &Entry| match entry {
            Entry::Agent(agent) => agent.current.upstream.as_deref().map(upstream_entry_name),
            Entry::Tenant(_) | Entry::Upstream(_) | Entry::Cell(_) => None,
        };
        self.good.iter().chain(last).filter_map(upstream).collect()
    }
}

/// All shared entries by name.
#[derive(Default)]
pub(super) struct SharedEntries(HashMap<String, Shared>);

impl SharedEntries {
    /// An entry that exists or is referred to.
    pub(super) fn get(&self, name: &str) -> Option<&Shared> {
        self.0.get(name)
    }

    /// The same, to change it; made if need be.
    pub(super) fn entry(&mut self, name: &str) -> &mut Shared {
        self.0.entry(name.to_owned()).or_default()
    }

    /// Every entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Shared)> {
        self.0.iter()
    }

    /// Notes that `user` refers to `name`.
    pub(super) fn refer(&mut self, name: &str, user: &str) {
        self.entry(name).users.insert(user.to_owned());
    }

    /// Notes that `user` no longer refers to `name`. Returns whether the entry may now go for good.
    pub(super) fn release(&mut self, name: &str, user: &str) -> bool {
        let Some(shared) = self.0.get_mut(name) else { return false };
        shared.users.remove(user);
        shared.users.is_empty() && (shared.deleted || (shared.good.is_none() && shared.unused.is_none()))
    }

    /// Forgets an entry.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Whether the entries that refer to this one can use it.
    pub(super) fn readiness(&self, name: &str) -> EntryReadiness {
        match self.0.get(name) {
            None => EntryReadiness::Unusable(format!("'{name}' is missing")),
            Some(shared) => match &shared.unused {
                Some(UnusedReason::Unreadable(reason)) => EntryReadiness::Unusable(format!("'{name}': {reason}")),
                Some(UnusedReason::Refused(_, reason)) => EntryReadiness::Unusable(format!("'{name}': {reason}")),
                Some(UnusedReason::Trying(_)) => EntryReadiness::LoginPending,
                // What it refers to itself counts as well.
                None if shared.good.is_some() => {
                    let below = shared.references();
                    below
                        .iter()
                        .map(|n| self.readiness(n))
                        .find(|s| *s != EntryReadiness::Ready)
                        .unwrap_or(EntryReadiness::Ready)
                }
                None => EntryReadiness::Unusable(format!("'{name}' is missing")),
            },
        }
    }
}
