//! The way to the database: open, closed for everybody while it is out, or closed for good because it is another one.
//! An outage is noticed by whoever meets it first and probed by one; the others wait without asking.

use super::postgres::Database;
use crate::{
    domain::ident::DatabaseId,
    plan::observed::{DatabaseView, Unseen},
};
use tokio::sync::watch;

/// The state of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateState {
    /// Not usable now.
    Closed(Unseen),
    /// Another database answered.
    Changed {
        /// The one that is expected.
        expected: DatabaseId,
        /// The one that answered.
        found: Option<DatabaseId>,
    },
    /// Usable.
    Open(DatabaseId),
}

impl GateState {
    /// What a pass sees when it may not ask.
    pub fn view(&self) -> Option<DatabaseView> {
        match self {
            Self::Closed(unseen) => Some(DatabaseView::Unknown(unseen.clone())),
            Self::Changed { expected, found } => Some(DatabaseView::Changed { expected: *expected, found: *found }),
            Self::Open(_) => None,
        }
    }
}

/// The gate in front of one database. Clones share it.
#[derive(Clone)]
pub struct Gate {
    /// The database behind it.
    pub database: Database,
    state: watch::Sender<GateState>,
}

impl Gate {
    /// A gate that is closed until somebody has looked at the database.
    pub fn new(database: Database) -> Self {
        let unseen = Unseen {
            class: crate::domain::class::ErrorClass::Transient,
            note: "the database has not been looked at yet".to_owned(),
        };
        Self { database, state: watch::Sender::new(GateState::Closed(unseen)) }
    }

    /// The state now.
    pub fn state(&self) -> GateState {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub fn follow(&self) -> watch::Receiver<GateState> {
        self.state.subscribe()
    }

    /// Sets the state. The same state again is no news to those who follow.
    pub fn set(&self, state: GateState) {
        self.state.send_if_modified(|old| {
            let news = *old != state;
            *old = state;
            news
        });
    }

    /// Closes an open gate: somebody met an outage.
    pub fn trip(&self, unseen: Unseen) {
        self.state.send_if_modified(|state| match state {
            GateState::Open(_) => {
                *state = GateState::Closed(unseen);
                true
            }
            GateState::Closed(_) | GateState::Changed { .. } => false,
        });
    }
}
