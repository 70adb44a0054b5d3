//! Who waits for which acknowledgement. A change of the replicas wakes those whose version has been reached, and nobody
//! else, so that one tenant's acknowledgement costs nothing to the others.

use super::work_queue::Target;
use crate::{domain::ident::Version, effects::kubernetes::replicas::Floors};
use std::collections::HashMap;

/// The waiting objects.
#[derive(Debug, Default)]
pub struct Waiters {
    /// Counts the changes of the replicas: whoever looked before the last one has to look again.
    changes: u64,
    /// What the last change left.
    floors: Floors,
    waiting: HashMap<Target, Version>,
}

impl Waiters {
    /// The count of changes; taken before a pass looks at the replicas.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Waits for `version`. Returns false if a change since `looked` would have woken it: look again at once. Many other
    /// changes come while many new tenants are served, and are worth no look.
    pub fn wait(&mut self, target: Target, version: Version, looked: u64) -> bool {
        if self.changes != looked && self.floors.wakes(version) {
            return false;
        }
        self.waiting.insert(target, version);
        true
    }

    /// No longer waits.
    pub fn forget(&mut self, target: &Target) {
        self.waiting.remove(target);
    }

    /// The replicas changed. Returns whom to wake: those whose version every ready or every running replica has
    /// reached, and everybody if there is no replica left to wait for.
    pub fn changed(&mut self, floors: Floors) -> Vec<Target> {
        self.changes += 1;
        self.floors = floors;
        let woken: Vec<Target> = self
            .waiting
            .iter()
            .filter(|(_, version)| floors.wakes(**version))
            .map(|(target, _)| target.clone())
            .collect();
        for target in &woken {
            self.waiting.remove(target);
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::kubernetes::cache::Key;

    fn tenant(name: &str) -> Target {
        Target::Tenant(Key::new("ns", name))
    }

    fn both(version: u64) -> Floors {
        Floors { ready: Some(Version(version)), running: Some(Version(version)) }
    }

    #[test]
    fn only_those_whose_version_is_reached_are_woken() {
        let mut waiters = Waiters::default();
        assert!(waiters.wait(tenant("a"), Version(5), 0));
        assert!(waiters.wait(tenant("b"), Version(9), 0));
        assert_eq!(waiters.changed(both(7)), [tenant("a")]);
        assert_eq!(waiters.changed(both(7)), []);
        assert_eq!(waiters.changed(both(9)), [tenant("b")]);
    }

    #[test]
    fn an_acknowledgement_between_the_look_and_the_wait_is_not_lost() {
        let mut waiters = Waiters::default();
        let looked = waiters.changes();
        assert_eq!(waiters.changed(both(9)), []);
        assert!(!waiters.wait(tenant("a"), Version(5), looked));
    }

    #[test]
    fn an_acknowledgement_of_others_between_the_look_and_the_wait_is_worth_no_look() {
        let mut waiters = Waiters::default();
        let looked = waiters.changes();
        assert_eq!(waiters.changed(both(4)), []);
        assert!(waiters.wait(tenant("a"), Version(5), looked));
        assert_eq!(waiters.changed(both(5)), [tenant("a")]);
    }

    #[test]
    fn the_end_of_the_last_replica_between_the_look_and_the_wait_is_looked_at_once() {
        let mut waiters = Waiters::default();
        let looked = waiters.changes();
        assert_eq!(waiters.changed(Floors::default()), []);
        assert!(!waiters.wait(tenant("a"), Version(5), looked));
        let looked = waiters.changes();
        assert!(waiters.wait(tenant("a"), Version(5), looked), "nothing has happened since");
    }
}
