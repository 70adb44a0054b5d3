//! The objects that wait for an acknowledgement. A change of the replicas enqueues only the objects with a
//! reached version, so that the acknowledgement of one tenant costs the others nothing.

use super::work_queue::Target;
use crate::{domain::ident::Version, effects::kubernetes::replicas::Floors};
use std::collections::HashMap;

/// The waiting objects.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Number of changes of the replicas. A reconcile that started before the last change may have missed it.
    changes: u64,
    /// The floors after the last change.
    floors: Floors,
    waiting: HashMap<Target, Version>,
}

impl Waiters {
    /// The number of changes, which is read before a reconcile observes the replicas.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Waits for `version`. Returns false if a change after the number `seen` has reached it: the object has to be reconciled
    /// again at once. Other changes don't count, because there are many while new tenants are served.
    pub(crate) fn wait(&mut self, target: Target, version: Version, seen: u64) -> bool {
        if self.changes != seen && self.floors.wakes(version) {
            return false;
        }
        self.waiting.insert(target, version);
        true
    }

    /// Removes an object.
    pub(crate) fn forget(&mut self, target: &Target) {
        self.waiting.remove(target);
    }

    /// Records a change of the replicas. Returns the objects with a version that every ready or every running replica has reached;
    /// all objects if no replica is left.
    pub(crate) fn changed(&mut self, floors: Floors) -> Vec<Target> {
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
    fn only_objects_with_a_reached_version_are_enqueued() {
        let mut waiters = Waiters::default();
        assert!(waiters.wait(tenant("a"), Version(5), 0));
        assert!(waiters.wait(tenant("b"), Version(9), 0));
        assert_eq!(waiters.changed(both(7)), [tenant("a")]);
        assert_eq!(waiters.changed(both(7)), []);
        assert_eq!(waiters.changed(both(9)), [tenant("b")]);
    }

    #[test]
    fn an_acknowledgement_during_the_reconcile_is_not_lost() {
        let mut waiters = Waiters::default();
        let seen = waiters.changes();
        assert_eq!(waiters.changed(both(9)), []);
        assert!(!waiters.wait(tenant("a"), Version(5), seen));
    }

    #[test]
    fn another_acknowledgement_during_the_reconcile_enqueues_nothing() {
        let mut waiters = Waiters::default();
        let seen = waiters.changes();
        assert_eq!(waiters.changed(both(4)), []);
        assert!(waiters.wait(tenant("a"), Version(5), seen));
        assert_eq!(waiters.changed(both(5)), [tenant("a")]);
    }

    #[test]
    fn the_end_of_the_last_replica_during_the_reconcile_is_not_lost() {
        let mut waiters = Waiters::default();
        let seen = waiters.changes();
        assert_eq!(waiters.changed(Floors::default()), []);
        assert!(!waiters.wait(tenant("a"), Version(5), seen));
        let seen = waiters.changes();
        assert!(waiters.wait(tenant("a"), Version(5), seen), "nothing has happened since");
    }
}
