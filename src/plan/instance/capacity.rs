//! How far a database is from the server's limits: reported before they are reached, because every tenant is affected then.

use serde::Deserialize;
use std::fmt;

/// The share of a limit from which it is reported, in percent.
const NEAR: u64 = 80;

/// What the server allows, and what of it is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct HeadroomFacts {
    /// `max_connections`.
    pub max_connections: u64,
    /// Those of them that only superusers and privileged roles get.
    pub reserved_connections: u64,
    /// Sessions in any database of the server now.
    pub connections: u64,
    /// Locks that all transactions together can hold: `max_locks_per_transaction` for each connection and prepared transaction.
    pub lock_slots: u64,
    /// Tables in this database. A transaction that reads all of them, as pg_dump's does, locks each.
    pub tables: u64,
}

/// Connections that may be opened to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionBudget {
    /// By the operator.
    pub operator: u64,
    /// By all replicas of the agent API together, as they say.
    pub replicas: u64,
}

/// A limit that is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// More connections may be opened than the server takes.
    Budget {
        /// What may be opened.
        budget: ConnectionBudget,
        /// What the server takes of ordinary roles.
        limit: u64,
    },
    /// Nearly all connections are taken.
    Connections {
        /// Taken now.
        taken: u64,
        /// What the server takes of ordinary roles.
        limit: u64,
    },
    /// A transaction that locks every table finds no room.
    Locks {
        /// Tables.
        tables: u64,
        /// Locks that there is room for.
        slots: u64,
    },
}

/// The limits that are near, the nearest to everyday work first.
pub fn find_pressure(facts: &HeadroomFacts, budget: ConnectionBudget) -> Vec<Pressure> {
    let limit = facts.max_connections.saturating_sub(facts.reserved_connections);
    let near = |taken: u64, limit: u64| taken.saturating_mul(100) >= limit.saturating_mul(NEAR);
    let mut found = Vec::new();
    if budget.operator + budget.replicas > limit {
        found.push(Pressure::Budget { budget, limit });
    }
    if near(facts.connections, limit) {
        found.push(Pressure::Connections { taken: facts.connections, limit });
    }
    if near(facts.tables, facts.lock_slots) {
        found.push(Pressure::Locks { tables: facts.tables, slots: facts.lock_slots });
    }
    found
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { budget: ConnectionBudget { operator, replicas }, limit } => write!(
                f,
                "the operator may open {operator} connections and the agent API's replicas {replicas}, and the server takes \
                 {limit}: raise max_connections, lower connectionBudget, or put a pooler between"
            ),
            Self::Connections { taken: _, limit } => {
                // Not the current number: it would differ at each check.
                write!(f, "{NEAR} % or more of the server's {limit} connections are taken: raise max_connections")
            }
            Self::Locks { tables: _, slots } => write!(
                f,
                "there is room for {slots} locks, and {NEAR} % as many tables or more: a dump of the whole database runs out of \
                 locks; raise max_locks_per_transaction, or dump schema by schema"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far() -> HeadroomFacts {
        HeadroomFacts { max_connections: 100, reserved_connections: 3, connections: 10, lock_slots: 6400, tables: 100 }
    }

    #[test]
    fn limits_are_reported_before_they_are_met() {
        let budget = ConnectionBudget { operator: 8, replicas: 80 };
        let found = |change: fn(&mut HeadroomFacts)| {
            let mut facts = far();
            change(&mut facts);
            find_pressure(&facts, budget)
        };
        assert_eq!(found(|_| ()), []);
        assert_eq!(found(|f| f.max_connections = 90), [Pressure::Budget { budget, limit: 87 }]);
        assert_eq!(found(|f| f.connections = 77), []);
        assert_eq!(found(|f| f.connections = 78), [Pressure::Connections { taken: 78, limit: 97 }]);
        assert_eq!(found(|f| f.tables = 5119), []);
        assert_eq!(found(|f| f.tables = 5120), [Pressure::Locks { tables: 5120, slots: 6400 }]);
        let all = found(|f| (f.max_connections, f.connections, f.tables) = (50, 50, 9000));
        assert_eq!(all.len(), 3);
        let messages: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert!(
            messages[0].contains("operator may open 8") && messages[0].contains("the server takes 47"),
            "{messages:?}"
        );
    }
}
