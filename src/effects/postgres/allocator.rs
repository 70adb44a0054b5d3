//! Counts the tenants of each cell, including those that are being created, so that a new tenant is offered a cell with
//! free capacity. `plan::cells::choose` chooses the cell.

use crate::{
    domain::ident::{CellNumber, TenantId},
    plan::{
        cells::{CellLoad, choose},
        observed::CellOffer,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The known cells of one database.
pub(super) struct Allocator {
    limit: usize,
    state: Mutex<AllocatorState>,
    /// Held while the ledger is counted: concurrent callers wait for one count.
    pub(super) loading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct AllocatorState {
    loaded: bool,
    /// Number of counts so far.
    generation: u64,
    cells: BTreeMap<CellNumber, CellLoad>,
    reservations: HashMap<TenantId, Reservation>,
}

#[derive(Clone, Copy)]
struct Reservation {
    cell: CellNumber,
    generation: u64,
}

impl Allocator {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), loading: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, AllocatorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state().loaded
    }

    /// Whether the roles of a cell are known to exist.
    pub(super) fn has(&self, cell: CellNumber) -> bool {
        self.state().cells.get(&cell).is_some_and(|load| load.exists)
    }

    /// Replaces the counts by those of the ledger. A reservation that was not used since the previous count expires.
    pub(super) fn load(&self, counts: impl IntoIterator<Item = (CellNumber, usize)>) {
        let mut state = self.state();
        state.loaded = true;
        state.generation += 1;
        let generation = state.generation;
        state.reservations.retain(|_, r| r.generation + 1 >= generation);
        state.cells = counts.into_iter().map(|(cell, tenants)| (cell, CellLoad { exists: true, tenants })).collect();
        let reserved: Vec<_> = state.reservations.values().map(|r| r.cell).collect();
        for cell in reserved {
            state.cells.entry(cell).or_default().tenants += 1;
        }
    }

    /// Reserves a place in a cell for a tenant. Returns the same cell until [`Allocator::settle`].
    pub(super) fn offer(&self, tenant: &TenantId) -> CellOffer {
        let mut state = self.state();
        let generation = state.generation;
        if let Some(reservation) = state.reservations.get_mut(tenant) {
            reservation.generation = generation;
            let cell = reservation.cell;
            return CellOffer { cell, exists: state.cells.get(&cell).is_some_and(|load| load.exists) };
        }
        let offer = choose(&state.cells, self.limit);
        state.reservations.insert(tenant.clone(), Reservation { cell: offer.cell, generation });
        state.cells.entry(offer.cell).or_default().tenants += 1;
        offer
    }

    /// The offer that [`Allocator::offer`] would return. Reserves nothing.
    pub(super) fn preview(&self, tenant: &TenantId) -> CellOffer {
        let state = self.state();
        match state.reservations.get(tenant) {
            Some(Reservation { cell, .. }) => {
                CellOffer { cell: *cell, exists: state.cells.get(cell).is_some_and(|load| load.exists) }
            }
            None => choose(&state.cells, self.limit),
        }
    }

    /// Ends the reservation of a tenant, which now is in this cell or in none. Does nothing without a reservation.
    pub(super) fn settle(&self, tenant: &TenantId, joined: Option<CellNumber>) {
        let mut state = self.state();
        let Some(reservation) = state.reservations.remove(tenant) else { return };
        if joined == Some(reservation.cell) {
            return;
        }
        if let Some(load) = state.cells.get_mut(&reservation.cell) {
            load.tenants = load.tenants.saturating_sub(1);
        }
        if let Some(cell) = joined {
            state.cells.entry(cell).or_default().tenants += 1;
        }
    }

    /// Records that a tenant of a cell was dropped.
    pub(super) fn leave(&self, cell: CellNumber) {
        if let Some(load) = self.state().cells.get_mut(&cell) {
            load.tenants = load.tenants.saturating_sub(1);
        }
    }

    /// Records that the roles of a cell exist.
    pub(super) fn made(&self, cell: CellNumber) {
        self.state().cells.entry(cell).or_default().exists = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> TenantId {
        TenantId::parse(&format!("t{n}")).unwrap()
    }

    #[test]
    fn reservations_fill_a_cell_like_tenants_do() {
        let cells = Allocator::new(2);
        cells.load([]);
        let offers: Vec<_> = (0..5).map(|n| cells.offer(&id(n)).cell.0).collect();
        assert_eq!(offers, [1, 1, 2, 2, 3]);
        assert_eq!(cells.offer(&id(0)), CellOffer { cell: CellNumber(1), exists: false });
        assert_eq!(cells.preview(&id(0)), cells.offer(&id(0)));
        let new = cells.preview(&id(5));
        assert_eq!(
            (new, cells.preview(&id(6))),
            (CellOffer { cell: CellNumber(3), exists: false }, new),
            "nothing is reserved"
        );
        cells.made(CellNumber(1));
        assert!(cells.offer(&id(0)).exists);
        // The place of a failed tenant is free again.
        cells.settle(&id(1), None);
        assert_eq!(cells.offer(&id(9)).cell, CellNumber(1));
    }

    #[test]
    fn a_settled_tenant_keeps_its_place_until_it_leaves() {
        let cells = Allocator::new(1);
        cells.load([]);
        cells.offer(&id(0));
        cells.settle(&id(0), Some(CellNumber(1)));
        assert_eq!(cells.offer(&id(1)).cell, CellNumber(2));
        cells.leave(CellNumber(1));
        assert_eq!(cells.offer(&id(2)).cell, CellNumber(1));
    }

    #[test]
    fn an_unused_reservation_expires() {
        let cells = Allocator::new(1);
        cells.load([(CellNumber(1), 0)]);
        cells.offer(&id(0));
        cells.load([(CellNumber(1), 0)]);
        assert_eq!(cells.offer(&id(1)).cell, CellNumber(2), "still reserved after one count");
        cells.offer(&id(1));
        cells.load([(CellNumber(1), 0)]);
        assert_eq!(cells.offer(&id(2)).cell, CellNumber(1), "expired after two");
    }
}
