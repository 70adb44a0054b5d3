//! Every database of the settings, each behind a gate of its own, and what this process knows of who is where.
//!
//! A Tenant without data yet is in exactly one place because of three things. A new leader reads the ledger of an instance
//! after it raised the epoch there, so that nothing of an earlier leader can arrive any more. This process remembers where
//! it has sent a change for a Tenant, whatever became of it, and goes nowhere else with it. And of an instance that does not
//! answer it remembers what the ledger held.

use super::breaker::{BreakerState, CircuitBreaker};
use crate::{
    domain::ident::{TenantId, Uid},
    plan::placement::{PlacementCandidate, PlacementRequest, Search, resolve_search},
};
use futures::future::select_all;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The databases, in the order of the settings. Clones share them.
#[derive(Clone)]
pub struct Instances {
    breakers: Arc<[CircuitBreaker]>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// By the place of the instance; `None` until this leader has read it.
    ledgers: Vec<Option<Ledger>>,
    /// By the Tenant. What was begun stays for as long as the process: a pass that was given up may still be on its way.
    placed: HashMap<Uid, Placement>,
}

/// What one ledger holds.
#[derive(Default)]
struct Ledger {
    /// Tenant ids of which there is something: at least these had it when it was last read.
    held: HashSet<TenantId>,
    /// Those that are in use, or about to be.
    in_use: HashSet<TenantId>,
    /// How often it was read.
    reads: u64,
}

struct Placement {
    tenant: TenantId,
    at: usize,
    stage: Stage,
    /// It is in use, or about to be, for this Tenant alone.
    counted: bool,
    /// How often the ledger had been read when it was last asked for.
    reads: u64,
}

/// How far a Tenant has come in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was offered a place.
    Meant,
    /// A change was sent.
    Begun,
    /// It was closed there.
    Ended,
}

/// What one look at a ledger found: tenant ids, and whether each has data in use.
pub type Residents = Vec<(TenantId, bool)>;

impl Memory {
    fn ledger(&mut self, at: usize) -> Option<&mut Ledger> {
        self.ledgers.get_mut(at).and_then(Option::as_mut)
    }

    fn place(&mut self, uid: &Uid, tenant: &TenantId, at: usize, stage: Stage) {
        let mut counted = self.placed.get(uid).is_some_and(|place| place.at == at && place.counted);
        if self.placed.get(uid).is_none_or(|place| place.at != at) {
            self.displace(uid);
            counted = self.ledger(at).is_some_and(|ledger| ledger.in_use.insert(tenant.clone()));
        }
        let reads = self.ledger(at).map_or(0, |ledger| ledger.reads);
        self.placed.insert(uid.clone(), Placement { tenant: tenant.clone(), at, stage, counted, reads });
        if let Some(ledger) = self.ledger(at).filter(|_| stage != Stage::Meant) {
            ledger.held.insert(tenant.clone());
        }
    }

    fn displace(&mut self, uid: &Uid) {
        let Some(place) = self.placed.remove(uid) else { return };
        if let Some(ledger) = self.ledger(place.at).filter(|_| place.counted) {
            ledger.in_use.remove(&place.tenant);
        }
    }
}

impl Instances {
    /// These databases.
    pub fn new(breakers: impl IntoIterator<Item = CircuitBreaker>) -> Self {
        let breakers: Arc<[CircuitBreaker]> = breakers.into_iter().collect();
        let memory = Memory { ledgers: breakers.iter().map(|_| None).collect(), placed: HashMap::new() };
        Self { breakers, memory: Arc::new(Mutex::new(memory)) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every gate.
    pub fn breakers(&self) -> &[CircuitBreaker] {
        &self.breakers
    }

    /// The gate of an instance.
    pub fn breaker(&self, name: &str) -> Option<&CircuitBreaker> {
        self.breakers.iter().find(|breaker| breaker.name() == name)
    }

    /// Whether there are several, so that a place has to be sought.
    pub fn are_several(&self) -> bool {
        self.breakers.len() > 1
    }

    /// Follows the states of all gates.
    pub fn follow(&self) -> Followed {
        Followed(self.breakers.iter().map(CircuitBreaker::follow).collect())
    }

    /// Takes in what the ledger of an instance holds.
    pub fn note_residents(&self, name: &str, residents: Residents) {
        let Some(at) = self.breakers.iter().position(|breaker| breaker.name() == name) else { return };
        let mut memory = self.memory();
        let reads = memory.ledger(at).map_or(1, |ledger| ledger.reads + 1);
        let in_use = residents.iter().filter(|(_, in_use)| *in_use).map(|(tenant, _)| tenant.clone()).collect();
        let mut ledger = Ledger { held: residents.into_iter().map(|(tenant, _)| tenant).collect(), in_use, reads };
        // A place that nobody asked for since the reading before is given up, unless something was sent there.
        memory.placed.retain(|_, place| place.at != at || place.stage != Stage::Meant || place.reads + 1 >= reads);
        for place in memory.placed.values_mut().filter(|place| place.at == at && place.stage != Stage::Ended) {
            place.counted = ledger.in_use.insert(place.tenant.clone());
            if place.stage == Stage::Begun {
                ledger.held.insert(place.tenant.clone());
            }
        }
        if let Some(slot) = memory.ledgers.get_mut(at) {
            *slot = Some(ledger);
        }
    }

    /// Where to look for the data of the Tenant `uid`, and what there is to choose from. `reserve`: a choice is kept in mind,
    /// so that many new tenants at once spread.
    pub fn search(
        &self,
        uid: &Uid,
        tenant: &TenantId,
        seeker: PlacementRequest<'_>,
        reserve: bool,
    ) -> (Search, Vec<PlacementCandidate>) {
        let mut memory = self.memory();
        let placed = memory.placed.get(uid).map(|place| (place.at, place.stage));
        let seeker = PlacementRequest {
            begun: placed.filter(|(_, stage)| *stage != Stage::Meant).map(|(at, _)| at),
            intended: placed.filter(|(_, stage)| *stage == Stage::Meant).map(|(at, _)| at),
            ..seeker
        };
        let candidates: Vec<PlacementCandidate> = self
            .breakers
            .iter()
            .zip(&memory.ledgers)
            .map(|(breaker, ledger)| candidate(breaker, ledger.as_ref(), tenant))
            .collect();
        let search = resolve_search(seeker, &candidates);
        if reserve && self.are_several() && seeker.recorded.is_none() && seeker.begun.is_none() && !seeker.deleting {
            match &search {
                Search::At(at) | Search::Ask { chosen: Ok(at), .. } => {
                    memory.place(uid, tenant, *at, Stage::Meant);
                }
                Search::Out(_) | Search::Ask { chosen: Err(_), .. } | Search::Nowhere(_) => memory.displace(uid),
            }
        }
        (search, candidates)
    }

    /// The Tenant was found in this instance, or nowhere may it go: it is not meant to go anywhere else.
    pub fn note_found(&self, uid: &Uid, at: Option<usize>) {
        let mut memory = self.memory();
        if memory.placed.get(uid).is_some_and(|place| Some(place.at) != at && place.stage == Stage::Meant) {
            memory.displace(uid);
        }
    }

    /// A change is about to be sent that may make something of a tenant id in this instance. `false`: meanwhile the Tenant
    /// was placed elsewhere, and the change must not be sent.
    pub fn begin(&self, uid: &Uid, tenant: &TenantId, name: &str) -> bool {
        let Some(at) = self.breakers.iter().position(|breaker| breaker.name() == name) else { return false };
        if !self.are_several() {
            return true;
        }
        let mut memory = self.memory();
        if memory.placed.get(uid).is_some_and(|place| place.at != at) {
            return false;
        }
        memory.place(uid, tenant, at, Stage::Begun);
        true
    }

    /// The Tenant was closed in the ledger of this instance.
    pub fn end(&self, uid: &Uid, tenant: &TenantId, name: &str) {
        let at = self.breakers.iter().position(|breaker| breaker.name() == name);
        let Some(at) = at.filter(|_| self.are_several()) else { return };
        let mut memory = self.memory();
        // Kept data, or at most a name too many: it is asked for when it matters.
        memory.place(uid, tenant, at, Stage::Ended);
        if let Some(ledger) = memory.ledger(at) {
            ledger.in_use.remove(tenant);
        }
    }
}

/// The states of all gates.
pub struct Followed(Vec<watch::Receiver<BreakerState>>);

impl Followed {
    /// Returns when one is open.
    pub async fn wait_for_any(&mut self) {
        while !self.0.iter_mut().any(|state| state.borrow_and_update().is_open()) {
            self.changed().await;
        }
    }

    /// Returns when one has changed.
    pub async fn changed(&mut self) {
        let changes = self.0.iter_mut().map(|state| Box::pin(state.changed()));
        // The gates live as long as the process.
        drop(select_all(changes).await);
    }
}

fn candidate(breaker: &CircuitBreaker, ledger: Option<&Ledger>, tenant: &TenantId) -> PlacementCandidate {
    PlacementCandidate {
        name: breaker.name().to_owned(),
        accepts: breaker.database.settings().accepts_new_tenants,
        open: breaker.is_open(),
        tenants: ledger.map_or(0, |ledger| ledger.in_use.len()),
        held: ledger.map(|ledger| ledger.held.contains(tenant)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ident::{DatabaseId, Epoch},
        effects::postgres::Database,
        settings::operator::OperatorSettings,
    };
    use uuid::Uuid;

    /// Two instances that nobody connects to, open with these residents.
    fn two(residents: [&[&str]; 2]) -> Instances {
        let breakers = ["a", "b"].map(|name| {
            let mut settings = OperatorSettings::default().database;
            settings.name = name.to_owned();
            CircuitBreaker::new(Database::new(settings))
        });
        let instances = Instances::new(breakers);
        for (breaker, ids) in instances.breakers().iter().zip(residents) {
            breaker.set_raised(Epoch(1));
            instances.note_residents(breaker.name(), ids.iter().map(|id| (tenant(id), true)).collect());
            open(breaker);
        }
        instances
    }

    fn open(breaker: &CircuitBreaker) {
        breaker.set(BreakerState::Open(DatabaseId(Uuid::nil())));
    }

    fn shut(breaker: &CircuitBreaker) {
        breaker.set(BreakerState::Changed { expected: DatabaseId(Uuid::nil()), found: None });
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn uid(id: &str) -> Uid {
        Uid(format!("uid-{id}"))
    }

    /// Where a new Tenant is looked for, or would go.
    fn place(instances: &Instances, id: &str) -> Option<usize> {
        match instances.search(&uid(id), &tenant(id), PlacementRequest::default(), true).0 {
            Search::At(at) | Search::Ask { chosen: Ok(at), .. } => Some(at),
            Search::Out(_) | Search::Ask { chosen: Err(_), .. } | Search::Nowhere(_) => None,
        }
    }

    fn begin(instances: &Instances, id: &str, name: &str) -> bool {
        instances.begin(&uid(id), &tenant(id), name)
    }

    #[test]
    fn many_at_once_spread_and_each_keeps_its_place() {
        let instances = two([&["old"], &[]]);
        let places: Vec<_> = ["t0", "t1", "t2", "t3", "t4"].map(|id| place(&instances, id)).into();
        assert_eq!(places, [1, 0, 1, 0, 1].map(Some));
        assert_eq!(place(&instances, "t1"), Some(0), "the same again");
        // Read again, with one of them there by now.
        instances.note_residents("a", vec![(tenant("old"), true), (tenant("t1"), true)]);
        assert_eq!(place(&instances, "t5"), Some(0));
    }

    #[test]
    fn what_was_sent_somewhere_goes_nowhere_else() {
        let instances = two([&[], &["old"]]);
        assert_eq!(place(&instances, "t"), Some(0));
        shut(&instances.breakers()[0]);
        assert_eq!(place(&instances, "t"), Some(1), "nothing was sent");
        assert!(!begin(&instances, "t", "a"), "a pass that still means the first place");
        assert!(begin(&instances, "t", "b") && begin(&instances, "t", "b"));
        shut(&instances.breakers()[1]);
        open(&instances.breakers()[0]);
        assert_eq!(place(&instances, "t"), Some(1), "its outcome is not known");
        instances.note_residents("b", Vec::new());
        assert_eq!(place(&instances, "t"), Some(1), "it may still arrive");
        assert!(!begin(&instances, "t", "a"));
        // Another Tenant of the same id may find it there.
        let other = instances.search(&uid("other"), &tenant("t"), PlacementRequest::default(), true).0;
        assert!(matches!(other, Search::Nowhere(_)), "{other:?}");
    }

    #[test]
    fn an_instance_that_is_out_is_known_by_what_it_held() {
        let instances = two([&["acme"], &[]]);
        shut(&instances.breakers()[0]);
        assert_eq!((place(&instances, "acme"), place(&instances, "new")), (None, Some(1)));
        let unread = Instances::new(instances.breakers().iter().cloned());
        unread.note_residents("b", Vec::new());
        assert_eq!(place(&unread, "new"), None, "never read by this process");
    }

    #[test]
    fn whoever_goes_makes_room_and_leaves_a_name() {
        let instances = two([&[], &["x"]]);
        assert_eq!(place(&instances, "t"), Some(0));
        assert!(begin(&instances, "t", "a"));
        instances.end(&uid("t"), &tenant("t"), "a");
        assert_eq!(place(&instances, "u"), Some(0), "it is empty again");
        shut(&instances.breakers()[0]);
        let again = instances.search(&uid("again"), &tenant("t"), PlacementRequest::default(), true).0;
        assert!(matches!(again, Search::Nowhere(_)), "it may have been kept: {again:?}");
    }

    #[test]
    fn whoever_takes_kept_data_over_counts_again_and_who_is_refused_does_not() {
        let instances = two([&[], &["x"]]);
        assert!(begin(&instances, "t", "b"));
        instances.end(&uid("t"), &tenant("t"), "b");
        assert!(instances.begin(&uid("heir"), &tenant("t"), "b"));
        assert_eq!(place(&instances, "refused"), Some(0));
        instances.note_found(&uid("refused"), None);
        let places: Vec<_> = ["t0", "t1", "t2", "t3"].map(|id| place(&instances, id)).into();
        assert_eq!(places, [0, 0, 0, 1].map(Some), "none against two");
    }

    #[test]
    fn a_place_that_nobody_asks_for_again_is_free() {
        let instances = two([&[], &["x"]]);
        assert_eq!(place(&instances, "t"), Some(0));
        instances.note_residents("a", Vec::new());
        assert_eq!(place(&instances, "u"), Some(0), "of one and one the first");
        instances.note_residents("a", Vec::new());
        instances.note_residents("a", Vec::new());
        instances.note_residents("a", Vec::new());
        assert_eq!(place(&instances, "v"), Some(0));
    }

    #[test]
    fn a_dry_run_leaves_nothing_behind() {
        let instances = two([&[], &["x"]]);
        let found = instances.search(&uid("t"), &tenant("t"), PlacementRequest::default(), false).0;
        assert!(matches!(found, Search::At(0) | Search::Ask { chosen: Ok(0), .. }), "{found:?}");
        assert!(begin(&instances, "t", "b"));
    }
}
