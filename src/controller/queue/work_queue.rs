//! The work queue: which object is looked at next. Pure; time is an argument.
//!
//! kube-runtime's own scheduler takes waiting objects in no particular order, so that with many new Tenants some would
//! wait for all others. Here they are served in order of arrival within four urgencies; one object is never worked on
//! twice at the same time, and what happens to it meanwhile is looked at once more afterwards.

use crate::{
    domain::ident::{TenantId, Uid},
    effects::kubernetes::cache::Key,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An AgentConfig.
    Agent(Key),
    /// A Tenant.
    Tenant(Key),
    /// An AgentConfig that vanished without us, of which something is left.
    VanishedAgent(Key, Uid),
    /// A Tenant that vanished without us, of which something is left.
    VanishedTenant(Key, Uid, TenantId),
}

impl Target {
    /// Kind of the object, for logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agentconfig",
            Self::Tenant(_) => "tenant",
            Self::VanishedAgent(..) => "vanished-agentconfig",
            Self::VanishedTenant(..) => "vanished-tenant",
        }
    }

    /// Namespace and name.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Agent(key) | Self::Tenant(key) | Self::VanishedAgent(key, _) | Self::VanishedTenant(key, ..) => key,
        }
    }
}

/// How much a look is wanted; the first goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The last step of something under way: an acknowledgement has arrived.
    Confirm,
    /// New, changed or being deleted.
    Change,
    /// An earlier attempt failed.
    Retry,
    /// Nothing happened; just to be sure.
    Periodic,
}

const LANES: usize = 4;

#[derive(Default)]
struct Slot {
    /// In this lane, not yet taken.
    queued: Option<Priority>,
    /// A worker has it.
    running: bool,
    /// Something happened while a worker had it.
    again: Option<Priority>,
    /// The one pending alarm.
    alarm: Option<(Duration, u64, Priority)>,
}

/// The queue.
#[derive(Default)]
pub struct Queue {
    lanes: [VecDeque<Target>; LANES],
    slots: HashMap<Target, Slot>,
    alarms: BTreeMap<(Duration, u64), Target>,
    counter: u64,
    /// How many slots are queued: counting them at each look would cost more with every object.
    waiting: usize,
}

impl Queue {
    /// Wants a look now.
    pub fn push(&mut self, target: Target, priority: Priority) {
        let slot = self.slots.entry(target.clone()).or_default();
        if slot.running {
            slot.again = Some(slot.again.map_or(priority, |old| old.min(priority)));
            return;
        }
        if slot.queued.is_some_and(|old| old <= priority) {
            return;
        }
        // A less urgent place further back is left behind and skipped when it is met.
        self.waiting += usize::from(slot.queued.is_none());
        slot.queued = Some(priority);
        self.lanes[priority as usize].push_back(target);
    }

    /// Wants a look at `when` (monotonic), or earlier if that was asked for before. Any look in between cancels it.
    pub fn push_at(&mut self, target: Target, priority: Priority, when: Duration) {
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

    /// The next object to look at; a worker has it until [`Self::finish`].
    pub fn pop(&mut self, now: Duration) -> Option<Target> {
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

    /// A worker is done with an object.
    pub fn finish(&mut self, target: &Target) {
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

    /// Moves alarms that are due into their lanes.
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
    pub fn next_alarm(&self) -> Option<Duration> {
        self.alarms.first_key_value().map(|((when, _), _)| *when)
    }

    /// How many objects wait for a worker.
    pub const fn waiting(&self) -> usize {
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
    fn what_happens_to_an_object_in_work_is_looked_at_once_more() {
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
    fn a_raised_urgency_moves_an_object_forward_without_doubling_it() {
        let mut queue = Queue::default();
        queue.push(tenant("a"), Priority::Periodic);
        queue.push(tenant("b"), Priority::Retry);
        queue.push(tenant("a"), Priority::Change);
        assert_eq!(drain(&mut queue, Duration::ZERO), ["a", "b"]);
    }

    #[test]
    fn the_earlier_alarm_holds_and_a_look_cancels_it() {
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
        assert_eq!(queue.slots.len(), 0, "nothing is kept of what needs nothing");
    }
}
