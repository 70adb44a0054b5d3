//! The circuit breaker of a database. It is closed while calls are allowed, and open while the database is unavailable or
//! another database answers. The first call that meets an outage opens it; the supervisor alone probes; everybody else waits.

use crate::effects::postgres::Database;
use crate::{
    domain::{
        class::ErrorClass,
        ident::{DatabaseId, Epoch},
    },
    plan::observed::{DatabaseView, ReadError},
};
use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};
use tokio::sync::watch;

/// The state of a circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls are refused: the database is unavailable or unfit.
    Open(ReadError),
    /// Calls are refused: another database answers.
    Changed {
        /// The expected database.
        expected: DatabaseId,
        /// The database that answers.
        found: Option<DatabaseId>,
    },
    /// Calls to this database are allowed.
    Closed(DatabaseId),
}

impl BreakerState {
    /// The state before the first check.
    fn unchecked() -> Self {
        let note = "the database has not been checked yet".to_owned();
        Self::Open(ReadError::new(ErrorClass::Transient, note))
    }

    /// Whether calls are allowed.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Whether the database has been checked.
    pub fn is_known(&self) -> bool {
        *self != Self::unchecked()
    }

    /// What a reconcile sees while calls are refused.
    pub fn view(&self) -> Option<DatabaseView> {
        match self {
            Self::Open(read_error) => Some(DatabaseView::Unknown(read_error.clone())),
            Self::Changed { expected, found } => Some(DatabaseView::Changed { expected: *expected, found: *found }),
            Self::Closed(_) => None,
        }
    }
}

/// The circuit breaker of one database. Clones share it.
#[derive(Clone)]
pub struct CircuitBreaker {
    /// The database.
    pub database: Database,
    state: watch::Sender<BreakerState>,
    /// The epoch that this leader raised in the database; 0 before. The epoch of the Lease may be greater since, because of
    /// another database.
    raised: Arc<AtomicI32>,
    /// Held while a cell is created, so that many new tenants create it once.
    pub(crate) cells: Arc<tokio::sync::Mutex<()>>,
}

impl CircuitBreaker {
    /// An open circuit breaker. The supervisor closes it after the first check.
    pub fn new(database: Database) -> Self {
        let state = watch::Sender::new(BreakerState::unchecked());
        Self { database, state, raised: Arc::default(), cells: Arc::default() }
    }

    /// Name of the instance.
    pub fn name(&self) -> &str {
        &self.database.settings().name
    }

    /// Whether calls are allowed.
    pub fn is_closed(&self) -> bool {
        self.state.borrow().is_closed()
    }

    /// The epoch that this leader raised in the database, if it has.
    pub fn raised(&self) -> Option<Epoch> {
        Some(self.raised.load(Ordering::Acquire)).filter(|epoch| *epoch > 0).map(Epoch)
    }

    /// Records the raised epoch. It stays for as long as this process leads, because sent changes carry it.
    pub fn set_raised(&self, epoch: Epoch) {
        self.raised.store(epoch.0, Ordering::Release);
    }

    /// The current state.
    pub fn state(&self) -> BreakerState {
        self.state.borrow().clone()
    }

    /// Subscribes to the state.
    pub fn follow(&self) -> watch::Receiver<BreakerState> {
        self.state.subscribe()
    }

    /// Sets the state. Subscribers are notified only of a change.
    pub fn set(&self, state: BreakerState) {
        self.state.send_if_modified(|old| {
            let changes = *old != state;
            *old = state;
            changes
        });
    }

    /// Opens a closed circuit breaker after an outage.
    pub fn trip(&self, read_error: ReadError) {
        self.state.send_if_modified(|state| match state {
            BreakerState::Closed(_) => {
                *state = BreakerState::Open(read_error);
                true
            }
            BreakerState::Open(_) | BreakerState::Changed { .. } => false,
        });
    }
}
