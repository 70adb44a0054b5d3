//! Which cell a new tenant joins.

use super::observed::CellOffer;
use crate::domain::ident::CellNumber;
use std::collections::BTreeMap;

/// What is known of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellLoad {
    /// Its roles exist.
    pub exists: bool,
    /// Tenants in it, those included that are just being made.
    pub tenants: usize,
}

/// Chooses the lowest cell with room, else the next number. Filling one cell after the other keeps the number of
/// logins, and so of the agent API's pools, as small as it can be.
pub fn choose(cells: &BTreeMap<CellNumber, CellLoad>, limit: usize) -> CellOffer {
    let with_room = cells.iter().find(|(_, load)| load.tenants < limit);
    if let Some((cell, load)) = with_room {
        return CellOffer { cell: *cell, exists: load.exists };
    }
    let last = cells.last_key_value().map_or(0, |(cell, _)| cell.0);
    CellOffer { cell: CellNumber(last.saturating_add(1)), exists: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(loads: &[(i32, bool, usize)]) -> BTreeMap<CellNumber, CellLoad> {
        loads
            .iter()
            .map(|(n, exists, tenants)| (CellNumber(*n), CellLoad { exists: *exists, tenants: *tenants }))
            .collect()
    }

    #[test]
    fn the_first_tenant_opens_the_first_cell() {
        assert_eq!(choose(&cells(&[]), 500), CellOffer { cell: CellNumber(1), exists: false });
    }

    #[test]
    fn a_gap_is_filled_before_a_new_cell_is_made() {
        let full_but_second = cells(&[(1, true, 500), (2, true, 499), (3, true, 0)]);
        assert_eq!(choose(&full_but_second, 500), CellOffer { cell: CellNumber(2), exists: true });
        let full = cells(&[(1, true, 500), (7, true, 501)]);
        assert_eq!(choose(&full, 500), CellOffer { cell: CellNumber(8), exists: false });
    }

    #[test]
    fn a_cell_that_is_about_to_be_made_is_shared() {
        let opening = cells(&[(1, true, 500), (2, false, 3)]);
        assert_eq!(choose(&opening, 500), CellOffer { cell: CellNumber(2), exists: false });
    }
}
