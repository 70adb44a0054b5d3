//! The databases of the settings, each with its circuit breaker, and what this process knows about the place of each tenant.
//!
//! Three rules keep the data of a new Tenant in one instance. A new leader reads the ledger of an instance after it raised
//! the epoch there, so that no change of an earlier leader can follow. This process remembers to which instance it has sent
//! a change for a Tenant, whatever the result, and sends changes to no other. It also remembers what the ledger of an
//! unavailable instance contained.

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
    memory: Arc<Mutex<PlacementMemory>>,
}

#[derive(Default)]
struct PlacementMemory {
    /// By the position of the instance; `None` until this leader has read it.
    ledgers: Vec<Option<Ledger>>,
    /// By Tenant. A place that a change was sent to is kept for the life of the process: the change may still arrive.
    placed: HashMap<Uid, Placement>,
}

/// The content of one ledger.
#[derive(Default)]
struct Ledger {
    /// Tenant ids with data, at least those of the last read.
    held: HashSet<TenantId>,
    /// Tenant ids with data in use, or with data that is about to be in use.
    in_use: HashSet<TenantId>,
    /// Number of reads.
    reads: u64,
}

struct Placement {
    tenant: TenantId,
    at: usize,
    stage: PlacementStage,
    /// `in_use` contains the tenant id because of this Tenant.
    counted: bool,
    /// Number of reads of the ledger at the last search of this Tenant.
    reads: u64,
}

/// Progress of a Tenant in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PlacementStage {
    /// The place was offered.
    Offered,
    /// A change was sent.
    Sent,
    /// The tenant was closed there.
    Closed,
}

/// The result of one read of a ledger: tenant ids, and whether each has data in use.
pub type Residents = Vec<(TenantId, bool)>;

impl PlacementMemory {
    fn ledger(&mut self, at: usize) -> Option<&mut Ledger> {
        self.ledgers.get_mut(at).and_then(Option::as_mut)
    }

    fn place(&mut self, uid: &Uid, tenant: &TenantId, at: usize, stage: PlacementStage) {
        let mut counted = self.placed.get(uid).is_some_and(|place| place.at == at && place.counted);
        if self.placed.get(uid).is_none_or(|place| place.at != at) {
            self.displace(uid);
            counted = self.ledger(at).is_some_and(|ledger| ledger.in_use.insert(tenant.clone()));
        }
        let reads = self.ledger(at).map_or(0, |ledger| ledger.reads);
        self.placed.insert(uid.clone(), Placement { tenant: tenant.clone(), at, stage, counted, reads });
        if let Some(ledger) = self.ledger(at).filter(|_| stage != PlacementStage::Offered) {
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
    /// Creates the registry of these databases.
    pub fn new(breakers: impl IntoIterator<Item = CircuitBreaker>) -> Self {
        let breakers: Arc<[CircuitBreaker]> = breakers.into_iter().collect();
        let memory = PlacementMemory { ledgers: breakers.iter().map(|_| None).collect(), placed: HashMap::new() };
        Self { breakers, memory: Arc::new(Mutex::new(memory)) }
    }

    fn memory(&self) -> MutexGuard<'_, PlacementMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The circuit breakers of all instances.
    pub fn breakers(&self) -> &[CircuitBreaker] {
        &self.breakers
    }

    /// The circuit breaker of an instance.
    pub fn breaker(&self, name: &str) -> Option<&CircuitBreaker> {
        self.breakers.iter().find(|breaker| breaker.name() == name)
    }

    /// Whether there are several instances, so that the place of a tenant has to be searched.
    pub fn are_several(&self) -> bool {
        self.breakers.len() > 1
    }

    /// Subscribes to the states of all circuit breakers.
    pub fn follow(&self) -> Followed {
        Followed(self.breakers.iter().map(CircuitBreaker::follow).collect())
    }

    /// Records the content of the ledger of an instance.
    pub fn note_residents(&self, name: &str, residents: Residents) {
        let Some(at) = self.breakers.iter().position(|breaker| breaker.name() == name) else { return };
        let mut memory = self.memory();
        let reads = memory.ledger(at).map_or(1, |ledger| ledger.reads + 1);
        let in_use = residents.iter().filter(|(_, in_use)| *in_use).map(|(tenant, _)| tenant.clone()).collect();
        let mut ledger = Ledger { held: residents.into_iter().map(|(tenant, _)| tenant).collect(), in_use, reads };
        // An offered place that was not searched since the previous read is freed.
        memory
            .placed
            .retain(|_, place| place.at != at || place.stage != PlacementStage::Offered || place.reads + 1 >= reads);
        for place in memory.placed.values_mut().filter(|place| place.at == at && place.stage != PlacementStage::Closed)
        {
            place.counted = ledger.in_use.insert(place.tenant.clone());
            if place.stage == PlacementStage::Sent {
                ledger.held.insert(place.tenant.clone());
            }
        }
        if let Some(slot) = memory.ledgers.get_mut(at) {
            *slot = Some(ledger);
        }
    }

    /// The instances to search for the data of the Tenant `uid`, and the candidates for a new tenant. `reserve`: the choice is
    /// remembered, so that many new tenants at once are spread.
    pub fn search(
        &self,
        uid: &Uid,
        tenant: &TenantId,
        request: PlacementRequest<'_>,
        reserve: bool,
    ) -> (Search, Vec<PlacementCandidate>) {
        let mut memory = self.memory();
        let placed = memory.placed.get(uid).map(|place| (place.at, place.stage));
        let request = PlacementRequest {
            begun: placed.filter(|(_, stage)| *stage != PlacementStage::Offered).map(|(at, _)| at),
            intended: placed.filter(|(_, stage)| *stage == PlacementStage::Offered).map(|(at, _)| at),
            ..request
        };
        let candidates: Vec<PlacementCandidate> = self
            .breakers
            .iter()
            .zip(&memory.ledgers)
            .map(|(breaker, ledger)| candidate(breaker, ledger.as_ref(), tenant))
            .collect();
        let search = resolve_search(request, &candidates);
        if reserve && self.are_several() && request.recorded.is_none() && request.begun.is_none() && !request.deleting {
            match &search {
                Search::At(at) | Search::Ask { chosen: Ok(at), .. } => {
                    memory.place(uid, tenant, *at, PlacementStage::Offered);
                }
                Search::Out(_) | Search::Ask { chosen: Err(_), .. } | Search::Nowhere(_) => memory.displace(uid),
            }
        }
        (search, candidates)
    }

    /// Records that the Tenant was found in this instance, or may be placed in none: other offers are dropped.
    pub fn note_found(&self, uid: &Uid, at: Option<usize>) {
        let mut memory = self.memory();
        if memory.placed.get(uid).is_some_and(|place| Some(place.at) != at && place.stage == PlacementStage::Offered) {
            memory.displace(uid);
        }
    }

    /// Records that a change is about to be sent that may create data of a tenant id in this instance. Returns `false` if the
    /// Tenant was meanwhile placed elsewhere: the change must not be sent.
    pub fn begin(&self, uid: &Uid, tenant: &TenantId, name: &str) -> bool {
        let Some(at) = self.breakers.iter().position(|breaker| breaker.name() == name) else { return false };
        if !self.are_several() {
            return true;
        }
        let mut memory = self.memory();
        if memory.placed.get(uid).is_some_and(|place| place.at != at) {
            return false;
        }
        memory.place(uid, tenant, at, PlacementStage::Sent);
        true
    }

    /// Records that the Tenant was closed in the ledger of this instance.
    pub fn end(&self, uid: &Uid, tenant: &TenantId, name: &str) {
        let at = self.breakers.iter().position(|breaker| breaker.name() == name);
        let Some(at) = at.filter(|_| self.are_several()) else { return };
        let mut memory = self.memory();
        // The data may be kept. An instance is asked again when that matters.
        memory.place(uid, tenant, at, PlacementStage::Closed);
        if let Some(ledger) = memory.ledger(at) {
            ledger.in_use.remove(tenant);
        }
    }
}

/// The states of all circuit breakers.
pub struct Followed(Vec<watch::Receiver<BreakerState>>);

impl Followed {
    /// Returns when one is closed, so that its database can be used.
    pub async fn wait_for_any(&mut self) {
        while !self.0.iter_mut().any(|state| state.borrow_and_update().is_closed()) {
            self.changed().await;
        }
    }

    /// Returns when one has changed.
    pub async fn changed(&mut self) {
        let changes = self.0.iter_mut().map(|state| Box::pin(state.changed()));
        // The circuit breakers live as long as the process.
        drop(select_all(changes).await);
    }
}

fn candidate(breaker: &CircuitBreaker, ledger: Option<&Ledger>, tenant: &TenantId) -> PlacementCandidate {
    PlacementCandidate {
        name: breaker.name().to_owned(),
        accepts: breaker.database.settings().accepts_new_tenants,
        open: breaker.is_closed(),
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

    /// Two instances with these residents. They are never connected to.
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
            close(breaker);
        }
        instances
    }

    fn close(breaker: &CircuitBreaker) {
        breaker.set(BreakerState::Closed(DatabaseId(Uuid::nil())));
    }

    fn open(breaker: &CircuitBreaker) {
        breaker.set(BreakerState::Changed { expected: DatabaseId(Uuid::nil()), found: None });
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn uid(id: &str) -> Uid {
        Uid(format!("uid-{id}"))
    }

    /// The instance that a new Tenant is searched in, or would be created in.
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
    fn many_new_tenants_are_spread_and_each_keeps_its_place() {
        let instances = two([&["old"], &[]]);
        let places: Vec<_> = ["t0", "t1", "t2", "t3", "t4"].map(|id| place(&instances, id)).into();
        assert_eq!(places, [1, 0, 1, 0, 1].map(Some));
        assert_eq!(place(&instances, "t1"), Some(0), "the same again");
        // Read again, with one of them there by now.
        instances.note_residents("a", vec![(tenant("old"), true), (tenant("t1"), true)]);
        assert_eq!(place(&instances, "t5"), Some(0));
    }

    #[test]
    fn a_tenant_with_a_sent_change_is_not_placed_elsewhere() {
        let instances = two([&[], &["old"]]);
        assert_eq!(place(&instances, "t"), Some(0));
        open(&instances.breakers()[0]);
        assert_eq!(place(&instances, "t"), Some(1), "nothing was sent");
        assert!(!begin(&instances, "t", "a"), "a reconcile with the first place");
        assert!(begin(&instances, "t", "b") && begin(&instances, "t", "b"));
        open(&instances.breakers()[1]);
        close(&instances.breakers()[0]);
        assert_eq!(place(&instances, "t"), Some(1), "its outcome is not known");
        instances.note_residents("b", Vec::new());
        assert_eq!(place(&instances, "t"), Some(1), "it may still arrive");
        assert!(!begin(&instances, "t", "a"));
        // Another Tenant of the same id may find it there.
        let other = instances.search(&uid("other"), &tenant("t"), PlacementRequest::default(), true).0;
        assert!(matches!(other, Search::Nowhere(_)), "{other:?}");
    }

    #[test]
    fn the_last_read_counts_for_an_unavailable_instance() {
        let instances = two([&["acme"], &[]]);
        open(&instances.breakers()[0]);
        assert_eq!((place(&instances, "acme"), place(&instances, "new")), (None, Some(1)));
        let unread = Instances::new(instances.breakers().iter().cloned());
        unread.note_residents("b", Vec::new());
        assert_eq!(place(&unread, "new"), None, "never read by this process");
    }

    #[test]
    fn a_closed_tenant_frees_its_place_and_keeps_its_id() {
        let instances = two([&[], &["x"]]);
        assert_eq!(place(&instances, "t"), Some(0));
        assert!(begin(&instances, "t", "a"));
        instances.end(&uid("t"), &tenant("t"), "a");
        assert_eq!(place(&instances, "u"), Some(0), "it is empty again");
        open(&instances.breakers()[0]);
        let again = instances.search(&uid("again"), &tenant("t"), PlacementRequest::default(), true).0;
        assert!(matches!(again, Search::Nowhere(_)), "it may have been kept: {again:?}");
    }

    #[test]
    fn an_adopting_tenant_counts_again_and_a_refused_one_does_not() {
        let instances = two([&[], &["x"]]);
        assert!(begin(&instances, "t", "b"));
        instances.end(&uid("t"), &tenant("t"), "b");
        assert!(instances.begin(&uid("adopter"), &tenant("t"), "b"));
        assert_eq!(place(&instances, "refused"), Some(0));
        instances.note_found(&uid("refused"), None);
        let places: Vec<_> = ["t0", "t1", "t2", "t3"].map(|id| place(&instances, id)).into();
        assert_eq!(places, [0, 0, 0, 1].map(Some), "none against two");
    }

    #[test]
    fn an_offer_that_is_not_searched_again_is_freed() {
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
    fn a_dry_run_reserves_nothing() {
        let instances = two([&[], &["x"]]);
        let found = instances.search(&uid("t"), &tenant("t"), PlacementRequest::default(), false).0;
        assert!(matches!(found, Search::At(0) | Search::Ask { chosen: Ok(0), .. }), "{found:?}");
        assert!(begin(&instances, "t", "b"));
    }
}
