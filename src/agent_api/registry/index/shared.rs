//! How shared entries are taken into use, kept and removed.

use super::{Login, RegistryIndex, TENANT_PREFIX};
use crate::{
    agent_api::registry::{
        Cell, RawEntry,
        shared::{EntryReadiness, UnusedReason},
    },
    domain::entry::{Entry, upstream_entry_name},
};
use std::sync::Arc;

impl RegistryIndex {
    pub(super) fn apply_shared(&mut self, raw: &RawEntry, entry: Result<Entry, String>) {
        let name = raw.name.as_str();
        let before = self.shared.readiness(name);
        let referred = self.shared.entry(name).references();
        let shared = self.shared.entry(name);
        shared.version = raw.version;
        shared.deleted = false;
        self.trying.remove(name);
        match entry {
            Err(reason) => shared.unused = Some(UnusedReason::Unreadable(reason)),
            Ok(entry) => self.offer(name, entry),
        }
        let refers = self.shared.entry(name).references();
        for gone in referred.difference(&refers) {
            self.release(gone, name);
        }
        for new in refers.difference(&referred) {
            self.shared.refer(new, name);
        }
        if self.shared.readiness(name) != before {
            self.propagate(name);
        }
    }

    /// Takes a shared entry into use, or notes what it still lacks.
    fn offer(&mut self, name: &str, entry: Entry) {
        match &entry {
            Entry::Agent(agent) => {
                let upstream = agent.current.upstream.as_deref().map(upstream_entry_name);
                match upstream.map(|u| self.shared.readiness(&u)) {
                    None | Some(EntryReadiness::Ready | EntryReadiness::LoginPending) => self.install(name, entry),
                    Some(EntryReadiness::Unusable(reason)) => {
                        self.shared.entry(name).unused = Some(UnusedReason::Refused(Box::new(entry), reason));
                    }
                }
            }
            Entry::Cell(cell) => {
                let shared = self.shared.entry(name);
                let version = shared.version;
                if shared.good.as_ref() == Some(&entry) {
                    shared.unused = None;
                } else {
                    self.logins.push(Login { name: name.to_owned(), version, entry: cell.clone() });
                    self.trying.insert(name.to_owned(), version);
                    shared.unused = Some(UnusedReason::Trying(Box::new(entry)));
                }
            }
            Entry::Upstream(_) | Entry::Tenant(_) => self.install(name, entry),
        }
    }

    pub(super) fn install(&mut self, name: &str, entry: Entry) {
        let shared = self.shared.entry(name);
        match &entry {
            Entry::Agent(agent) => self.snapshot.agents.insert(agent.uid.clone(), Arc::new(agent.as_ref().clone())),
            Entry::Upstream(upstream) => {
                self.snapshot.upstreams.insert(upstream.hash.clone(), Arc::new(upstream.clone()));
            }
            Entry::Cell(cell) => {
                let cell = Cell { name: name.to_owned(), version: shared.version, entry: cell.clone() };
                self.snapshot.cells.insert(name.to_owned(), Arc::new(cell));
            }
            Entry::Tenant(_) => return,
        }
        shared.good = Some(entry);
        shared.unused = None;
    }

    /// Evaluates the entries again that refer to a shared one.
    pub(super) fn propagate(&mut self, name: &str) {
        let users = self.shared.entry(name).users.clone();
        for user in users {
            if user.starts_with(TENANT_PREFIX) {
                self.evaluate(&user);
                continue;
            }
            let waiting = match self.shared.entry(&user).unused.clone() {
                Some(UnusedReason::Refused(entry, _)) => Some(*entry),
                Some(UnusedReason::Unreadable(_) | UnusedReason::Trying(_)) | None => None,
            };
            if let Some(entry) = waiting {
                self.offer(&user, entry);
            }
            self.propagate(&user);
        }
    }

    pub(super) fn delete_shared(&mut self, name: &str) {
        match self.shared.get(name) {
            None => {}
            Some(shared) if shared.users.is_empty() => self.forget_shared(name),
            Some(_) => {
                self.shared.entry(name).deleted = true;
                self.ignored.insert(name.to_owned(), "a loaded entry still refers to it");
            }
        }
    }

    pub(super) fn forget_shared(&mut self, name: &str) {
        let Some(shared) = self.shared.get(name) else { return };
        let refers = shared.references();
        match &shared.good {
            Some(Entry::Agent(agent)) => self.snapshot.agents.remove(&agent.uid),
            Some(Entry::Upstream(upstream)) => self.snapshot.upstreams.remove(&upstream.hash),
            Some(Entry::Cell(_)) => self.snapshot.cells.remove(name),
            Some(Entry::Tenant(_)) | None => {}
        }
        self.shared.forget(name);
        self.trying.remove(name);
        self.ignored.remove(name);
        for reference in refers {
            self.release(&reference, name);
        }
    }
}
