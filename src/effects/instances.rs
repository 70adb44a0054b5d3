//! Every database of the settings, each behind a gate of its own, and what this process knows of who is where.
//!
//! A Tenant without data yet is in exactly one place because of three things. A new leader reads the ledger of an instance
//! after it raised the epoch there, so that nothing of an earlier leader can arrive any more. This process remembers where
//! it has sent a change for a tenant id, whatever became of it, and goes nowhere else with it. And of an instance that does
//! not answer it remembers what the ledger held.

use super::gate::Gate;
use crate::{
    domain::ident::TenantId,
    plan::place::{Candidate, Search, Seeker, resolve_search},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The databases, in the order of the settings. Clones share them.
#[derive(Clone)]
pub struct Instances {
    gates: Arc<[Gate]>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Clone, Default)]
struct Memory {
    /// By the place of the instance; `None` until this leader has read it.
    ledgers: Vec<Option<Ledger>>,
    placed: HashMap<TenantId, Placement>,
}

/// What one ledger holds.
#[derive(Clone, Default)]
struct Ledger {
    /// Tenant ids of which there is something: at least these had it when it was last read.
    held: HashSet<TenantId>,
    /// Tenants in use, or about to be.
    tenants: usize,
    /// How often it was read.
    reads: u64,
}

#[derive(Clone, Copy)]
struct Placement {
    at: usize,
    /// A change was sent.
    begun: bool,
    /// How often the ledger had been read when it was last asked for.
    reads: u64,
}

/// What one look at a ledger found: tenant ids, and whether each has data in use.
pub type Residents = Vec<(TenantId, bool)>;

impl Memory {
    fn ledger(&mut self, at: usize) -> Option<&mut Ledger> {
        self.ledgers.get_mut(at).and_then(Option::as_mut)
    }

    fn place(&mut self, tenant: &TenantId, at: usize, begun: bool) {
        let reads = self.ledger(at).map_or(0, |ledger| ledger.reads);
        let here = self.placed.get(tenant).is_some_and(|place| place.at == at);
        if !here {
            self.displace(tenant);
            if let Some(ledger) = self.ledger(at).filter(|ledger| !ledger.held.contains(tenant)) {
                ledger.tenants += 1;
            }
        }
        self.placed.insert(tenant.clone(), Placement { at, begun, reads });
        if let Some(ledger) = self.ledger(at).filter(|_| begun) {
            ledger.held.insert(tenant.clone());
        }
    }

    fn displace(&mut self, tenant: &TenantId) {
        let Some(place) = self.placed.remove(tenant) else { return };
        if let Some(ledger) = self.ledger(place.at).filter(|ledger| !ledger.held.contains(tenant)) {
            ledger.tenants = ledger.tenants.saturating_sub(1);
        }
    }
}

impl Instances {
    /// These databases.
    pub fn new(gates: impl IntoIterator<Item = Gate>) -> Self {
        let gates: Arc<[Gate]> = gates.into_iter().collect();
        let memory = Memory { ledgers: vec![None; gates.len()], placed: HashMap::new() };
        Self { gates, memory: Arc::new(Mutex::new(memory)) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every gate.
    pub fn gates(&self) -> &[Gate] {
        &self.gates
    }

    /// The gate of an instance.
    pub fn gate(&self, name: &str) -> Option<&Gate> {
        self.gates.iter().find(|gate| gate.name() == name)
    }

    /// Whether there are several, so that a place has to be sought.
    pub fn are_several(&self) -> bool {
        self.gates.len() > 1
    }

    /// Takes in what the ledger of an instance holds.
    pub fn note_residents(&self, name: &str, residents: Residents) {
        let Some(at) = self.gates.iter().position(|gate| gate.name() == name) else { return };
        let mut memory = self.memory();
        let reads = memory.ledger(at).map_or(1, |ledger| ledger.reads + 1);
        let tenants = residents.iter().filter(|(_, in_use)| *in_use).count();
        let mut ledger = Ledger { held: residents.into_iter().map(|(tenant, _)| tenant).collect(), tenants, reads };
        // A place that nobody asked for since the reading before is given up, unless something was sent there.
        memory.placed.retain(|_, place| place.at != at || place.begun || place.reads + 1 >= reads);
        for (tenant, place) in memory.placed.iter().filter(|(_, place)| place.at == at) {
            ledger.tenants += usize::from(!ledger.held.contains(tenant));
            if place.begun {
                ledger.held.insert(tenant.clone());
            }
        }
        if let Some(slot) = memory.ledgers.get_mut(at) {
            *slot = Some(ledger);
        }
    }

    /// Where to look for a tenant, and what there is to choose from. A choice is kept in mind, so that many new tenants
    /// at once spread.
    pub fn search(&self, tenant: &TenantId, seeker: Seeker<'_>) -> (Search, Vec<Candidate>) {
        let mut memory = self.memory();
        let placed = memory.placed.get(tenant).copied();
        if let (Some(name), Some(place)) = (seeker.recorded, placed) {
            // From now on the record tells, also after this process.
            if self.gates.get(place.at).is_some_and(|gate| gate.name() == name) {
                memory.placed.remove(tenant);
            }
        }
        let seeker = Seeker {
            begun: placed.filter(|place| place.begun).map(|place| place.at),
            intended: placed.filter(|place| !place.begun).map(|place| place.at),
            ..seeker
        };
        let candidates: Vec<Candidate> = self
            .gates
            .iter()
            .zip(&memory.ledgers)
            .map(|(gate, ledger)| candidate(gate, ledger.as_ref(), tenant))
            .collect();
        let search = resolve_search(seeker, &candidates);
        if self.are_several() && seeker.recorded.is_none() && seeker.begun.is_none() && !seeker.deleting {
            match &search {
                Search::At(at) | Search::Ask { chosen: Ok(at), .. } => memory.place(tenant, *at, false),
                Search::Out(_) | Search::Ask { chosen: Err(_), .. } | Search::Nowhere(_) => memory.displace(tenant),
            }
        }
        (search, candidates)
    }

    /// A tenant was found in this instance: it is not meant to go anywhere else.
    pub fn note_found(&self, tenant: &TenantId, at: usize) {
        let mut memory = self.memory();
        if memory.placed.get(tenant).is_some_and(|place| place.at != at && !place.begun) {
            memory.displace(tenant);
        }
    }

    /// A change is about to be sent that may make something of a tenant id in this instance. `false`: meanwhile it was
    /// meant to go elsewhere, and the change must not be sent.
    pub fn begin(&self, tenant: &TenantId, name: &str) -> bool {
        let Some(at) = self.gates.iter().position(|gate| gate.name() == name) else { return false };
        if !self.are_several() {
            return true;
        }
        let mut memory = self.memory();
        if memory.placed.get(tenant).is_some_and(|place| place.at != at) {
            return false;
        }
        memory.place(tenant, at, true);
        true
    }

    /// The ledger has closed a tenant id, for whatever may still arrive too: the next Tenant of that id may go anywhere.
    pub fn end(&self, tenant: &TenantId, name: &str) {
        let Some(at) = self.gates.iter().position(|gate| gate.name() == name) else { return };
        let mut memory = self.memory();
        memory.placed.remove(tenant);
        if let Some(ledger) = memory.ledger(at) {
            ledger.tenants = ledger.tenants.saturating_sub(1);
            // Kept data, or at most a name too many: it is asked for when it matters.
            ledger.held.insert(tenant.clone());
        }
    }

    /// The same for a rehearsal: no change is sent, and nothing of it is kept in mind.
    #[must_use]
    pub fn rehearsing(&self) -> Self {
        let gates = self.gates.iter().map(Gate::rehearsing).collect();
        Self { gates, memory: Arc::new(Mutex::new(self.memory().clone())) }
    }
}

fn candidate(gate: &Gate, ledger: Option<&Ledger>, tenant: &TenantId) -> Candidate {
    Candidate {
        name: gate.name().to_owned(),
        accepts: gate.database.settings().accepts_new_tenants,
        open: gate.is_open(),
        tenants: ledger.map_or(0, |ledger| ledger.tenants),
        held: ledger.map(|ledger| ledger.held.contains(tenant)),
    }
}
