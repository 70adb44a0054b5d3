//! The way to the database: open, closed for everybody while it is out, or closed for good because it is another one.
//! An outage is noticed by whoever meets it first and probed by one; the others wait without asking.

use crate::effects::postgres::Database;
use crate::{
    domain::ident::{DatabaseId, Epoch},
    plan::observed::{DatabaseView, ReadError},
};
use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};
use tokio::sync::watch;

/// The state of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Not usable now.
    Closed(ReadError),
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

impl BreakerState {
    /// Before the first look.
    fn not_yet() -> Self {
        Self::Closed(ReadError {
            class: crate::domain::class::ErrorClass::Transient,
            note: "the database has not been looked at yet".to_owned(),
        })
    }

    /// Whether the database can be used.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Whether somebody has looked.
    pub fn is_known(&self) -> bool {
        *self != Self::not_yet()
    }

    /// What a pass sees when it may not ask.
    pub fn view(&self) -> Option<DatabaseView> {
        match self {
            Self::Closed(read_error) => Some(DatabaseView::Unknown(read_error.clone())),
            Self::Changed { expected, found } => Some(DatabaseView::Changed { expected: *expected, found: *found }),
            Self::Open(_) => None,
        }
    }
}

/// The gate in front of one database. Clones share it.
#[derive(Clone)]
pub struct CircuitBreaker {
    /// The database behind it.
    pub database: Database,
    state: watch::Sender<BreakerState>,
    /// The epoch that this leader raised behind it; 0 before. Leadership may have stepped over another database's since.
    raised: Arc<AtomicI32>,
    /// Held while a cell is made, so that many new tenants make it once.
    pub(crate) cells: Arc<tokio::sync::Mutex<()>>,
}

impl CircuitBreaker {
    /// A gate that is closed until somebody has looked at the database.
    pub fn new(database: Database) -> Self {
        let state = watch::Sender::new(BreakerState::not_yet());
        Self { database, state, raised: Arc::default(), cells: Arc::default() }
    }

    /// Name of the instance.
    pub fn name(&self) -> &str {
        &self.database.settings().name
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.state.borrow().is_open()
    }

    /// The epoch that this leader raised in the database, if it has.
    pub fn raised(&self) -> Option<Epoch> {
        Some(self.raised.load(Ordering::Acquire)).filter(|epoch| *epoch > 0).map(Epoch)
    }

    /// Notes the epoch that was raised. It stays for as long as this process leads: changes are under way with it.
    pub fn set_raised(&self, epoch: Epoch) {
        self.raised.store(epoch.0, Ordering::Release);
    }

    /// The state now.
    pub fn state(&self) -> BreakerState {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub fn follow(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    /// Sets the state. The same state again is no news to those who follow.
    pub fn set(&self, state: BreakerState) {
        self.state.send_if_modified(|old| {
            let changes = *old != state;
            *old = state;
            changes
        });
    }

    /// Closes an open gate: somebody met an outage.
    pub fn trip(&self, read_error: ReadError) {
        self.state.send_if_modified(|state| match state {
            BreakerState::Open(_) => {
                *state = BreakerState::Closed(read_error);
                true
            }
            BreakerState::Closed(_) | BreakerState::Changed { .. } => false,
        });
    }
}
