//! The work queue: which object is reconciled next. Pure; time is an argument.
//!
//! kube-runtime's scheduler takes waiting objects in no particular order, so that of many new Tenants some would wait for all
//! others. This queue is first-in-first-out within four priorities. An object is never reconciled twice at the same time; a
//! change during its reconcile enqueues it once more.

use crate::{
    domain::ident::{TenantId, Uid},
    effects::kubernetes::cache::Key,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

/// An object to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// An AgentConfig.
    Agent(Key),
    /// A Tenant.
    Tenant(Key),
    /// An AgentConfig that was deleted without the operator, and left an entry.
    VanishedAgent(Key, Uid),
    /// A Tenant that was deleted without the operator, and left an entry or data.
    VanishedTenant(Key, Uid, TenantId),
}

impl Target {
    /// Kind of the object, for logs and metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agentconfig",
            Self::Tenant(_) => "tenant",
            Self::VanishedAgent(..) => "vanished-agentconfig",
            Self::VanishedTenant(..) => "vanished-tenant",
        }
    }

    /// Namespace and name.
    pub(crate) const fn key(&self) -> &Key {
        match self {
            Self::Agent(key) | Self::Tenant(key) | Self::VanishedAgent(key, _) | Self::VanishedTenant(key, ..) => key,
        }
    }
}

/// The priority of a reconcile, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// An acknowledgement has arrived: the last step of a change.
    Confirm,
    /// The object is new, changed or being deleted.
    Change,
    /// An earlier attempt failed.
    Retry,
    /// A periodic reconcile without a change.
    Periodic,
}

const LANES: usize = 4;

#[derive(Default)]
struct Slot {
    /// Its lane, if it waits for a worker.
    queued: Option<Priority>,
    /// A worker reconciles it.
    running: bool,
    /// It was enqueued during its reconcile.
    again: Option<Priority>,
    /// The one pending alarm.
    alarm: Option<(Duration, u64, Priority)>,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    lanes: [VecDeque<Target>; LANES],
    slots: HashMap<Target, Slot>,
    alarms: BTreeMap<(Duration, u64), Target>,
    counter: u64,
    /// Number of queued slots. Counting them each time would cost more with every object.
    waiting: usize,
}

impl Queue {
    /// Enqueues an object now.
    pub(crate) fn push(&mut self, target: Target, priority: Priority) {
        let slot = self.slots.entry(target.clone()).or_default();
        if slot.running {
            slot.again = Some(slot.again.map_or(priority, |old| old.min(priority)));
            return;
        }
        if slot.queued.is_some_and(|old| old <= priority) {
            return;
        }
        // The place in a lower lane stays, and is skipped when it is popped.
        self.waiting += usize::from(slot.queued.is_none());
        slot.queued = Some(priority);
        self.lanes[priority as usize].push_back(target);
    }

    /// Enqueues an object at `when` (monotonic), or earlier if it has an earlier alarm. A reconcile in between cancels it.
    pub(crate) fn push_at(&mut self, target: Target, priority: Priority, when: Duration) {
        let slot = self.slots.entry(target.clone()).or_default();
        if let Some((old, number, _)) = slot.alarm {
            if old <= when {
                return;
            }
            self.alarms.remove(&(old, number));
        }
        self.counter += 1;
        slot.alarm = Some((when, self.counter, priority));
        self.alarms.insert((when, self.counter), target);
    }

    /// The next object to reconcile. It is running until [`Self::finish`].
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Target> {
        self.fire_alarms(now);
        for lane in 0..LANES {
            while let Some(target) = self.lanes[lane].pop_front() {
                let Some(slot) = self.slots.get_mut(&target) else { continue };
                if slot.queued.is_none_or(|priority| priority as usize != lane) {
                    continue;
                }
                slot.queued = None;
                self.waiting -= 1;
                slot.running = true;
                if let Some((when, number, _)) = slot.alarm.take() {
                    self.alarms.remove(&(when, number));
                }
                return Some(target);
            }
        }
        None
    }

    /// Records that the reconcile of an object has ended.
    pub(crate) fn finish(&mut self, target: &Target) {
        let Some(slot) = self.slots.get_mut(target) else { return };
        slot.running = false;
        match slot.again.take() {
            Some(priority) => self.push(target.clone(), priority),
            None if slot.alarm.is_none() && slot.queued.is_none() => {
                self.slots.remove(target);
            }
            None => {}
        }
    }

    /// Moves due alarms into their lanes.
    fn fire_alarms(&mut self, now: Duration) {
        while let Some(entry) = self.alarms.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let target = entry.remove();
            let priority =
                self.slots.get_mut(&target).and_then(|slot| slot.alarm.take()).map(|(_, _, priority)| priority);
            if let Some(priority) = priority {
                self.push(target, priority);
            }
        }
    }

    /// When the next alarm is due.
    pub(crate) fn next_alarm(&self) -> Option<Duration> {
        self.alarms.first_key_value().map(|((when, _), _)| *when)
    }

    /// Number of objects that wait for a worker.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Target {
        Target::Tenant(Key::new("ns", name))
    }

    fn drain(queue: &mut Queue, now: Duration) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now)).map(|t| t.key().name.clone()).collect()
    }

    #[test]
    fn confirmations_go_first_and_the_rest_in_order_of_arrival() {
        let mut queue = Queue::default();
        for name in ["c", "a", "b"] {
            queue.push(tenant(name), Priority::Change);
        }
        queue.push(tenant("old"), Priority::Confirm);
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(queue.waiting(), 4);
        assert_eq!(drain(&mut queue, Duration::ZERO), ["old", "c", "a", "b"]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_change_during_a_reconcile_enqueues_the_object_once_more() {
        let mut queue = Queue::default();
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(queue.pop(Duration::ZERO), Some(tenant("a")));
        queue.push(tenant("a"), Priority::Retry);
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(queue.pop(Duration::ZERO), None, "never twice at once");
        queue.finish(&tenant("a"));
        assert_eq!(drain(&mut queue, Duration::ZERO), ["a"]);
    }

    #[test]
    fn a_higher_priority_moves_an_object_forward_without_duplicating_it() {
        let mut queue = Queue::default();
        queue.push(tenant("a"), Priority::Periodic);
        queue.push(tenant("b"), Priority::Retry);
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(drain(&mut queue, Duration::ZERO), ["a", "b"]);
    }

    #[test]
    fn the_earlier_alarm_stays_and_a_reconcile_cancels_it() {
        let mut queue = Queue::default();
        let at = Duration::from_secs;
        queue.push_at(tenant("a"), Priority::Periodic, at(60));
        queue.push_at(tenant("a"), Priority::Retry, at(5));
        queue.push_at(tenant("a"), Priority::Retry, at(9));
        assert_eq!(queue.next_alarm(), Some(at(5)));
        assert_eq!(queue.pop(at(4)), None);
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(queue.pop(at(4)), Some(tenant("a")));
        queue.finish(&tenant("a"));
        assert_eq!(queue.next_alarm(), None);
        assert_eq!(queue.pop(at(100)), None);
        assert_eq!(queue.slots.len(), 0, "an object without work has no slot");
    }
}
