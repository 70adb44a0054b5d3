//! What a SQLSTATE means, in one table for operator and agent API. Codes and names: PostgreSQL manual, appendix A
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>). The functions of the control schema raise `AT…`.

/// `query_canceled`: the statement timed out.
pub const CANCELED: &str = "57014";
/// `duplicate_schema`.
pub const DUPLICATE_SCHEMA: &str = "42P06";
/// `invalid_schema_name`.
pub const UNDEFINED_SCHEMA: &str = "3F000";
/// `read_only_sql_transaction`.
pub const READ_ONLY: &str = "25006";
/// `disk_full`.
pub const DISK_FULL: &str = "53100";
/// `dependent_objects_still_exist`.
pub const STILL_NEEDED: &str = "2BP01";
/// `syntax_error`: its message quotes the statement.
pub const SYNTAX_ERROR: &str = "42601";
/// `undefined_object`: a role does not exist.
pub const UNDEFINED_OBJECT: &str = "42704";
/// `undefined_table`.
pub const UNDEFINED_TABLE: &str = "42P01";
/// `unique_violation`.
pub const UNIQUE_VIOLATION: &str = "23505";

/// A newer leader exists.
pub const FENCED: &str = "ATF01";
/// The change was made before.
pub const ALREADY_DONE: &str = "ATD01";
/// The ledger row belongs to another owner.
pub const FOREIGN_ROW: &str = "ATC01";
/// A role or schema has the mark of other data.
pub const FOREIGN_MARK: &str = "ATC02";
/// An object outside of the schema depends on it.
pub const DEPENDENTS: &str = "ATC03";
/// A role or schema no longer exists.
pub const LOST: &str = "ATC04";
/// The ledger row has changed since it was read.
pub const MOVED_ON: &str = "ATR01";

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This server can't serve the statement, and another connection may reach one that can: it takes no writes, its disk is
    /// full, it starts, shuts down or crashed, it has no free connection or memory. Nothing was changed, except that a session
    /// which ended during a COMMIT leaves that open. The connection must not be used again.
    Unavailable,
    /// Rolled back for another transaction: a deadlock, a serialisation failure, a conflict on a standby.
    RolledBack,
    /// A time limit of the statement.
    TimedOut,
    /// Something else holds a lock, or changes the same catalog row.
    Contended,
    /// Duplicate key: for the operator, two changes at once.
    Duplicate,
    /// "cached plan must not change result type": the schema's version changed under a prepared statement.
    StalePlan,
    /// No privilege, a refused login, no such database.
    Denied,
    /// A role, schema, table or function does not exist.
    Missing,
    /// The object exists already: another one made it.
    Exists,
    /// Other objects still depend on it.
    StillNeeded,
    /// Raised by the control schema: the state is not the one that the step was planned from.
    Stale,
    /// Raised by the control schema: the step was performed before.
    AlreadyDone,
    /// Raised by the control schema: other data, other objects or a loss are in the way.
    Conflict,
    /// `RAISE EXCEPTION` of a trigger or an event trigger of somebody else.
    RefusedByTrigger,
    /// Anything else: the statement is wrong.
    Statement,
}

/// Codes, and classes of codes (their first two characters). An exact code goes before its class.
const TABLE: &[(&str, Meaning)] = &[
    (FENCED, Meaning::Stale),
    (MOVED_ON, Meaning::Stale),
    (ALREADY_DONE, Meaning::AlreadyDone),
    (FOREIGN_ROW, Meaning::Conflict),
    (FOREIGN_MARK, Meaning::Conflict),
    (DEPENDENTS, Meaning::Conflict),
    (LOST, Meaning::Conflict),
    (READ_ONLY, Meaning::Unavailable),
    // idle_in_transaction_session_timeout, transaction_timeout (17): both end the session.
    ("25P03", Meaning::Unavailable),
    ("25P04", Meaning::Unavailable),
    (CANCELED, Meaning::TimedOut),
    // lock_not_available, object_in_use.
    ("55P03", Meaning::Contended),
    ("55006", Meaning::Contended),
    (UNIQUE_VIOLATION, Meaning::Duplicate),
    // feature_not_supported.
    ("0A000", Meaning::StalePlan),
    // insufficient_privilege, invalid_grant_operation, invalid_catalog_name (no such database), and
    // invalid_parameter_value, which SET ROLE reports for a role that does not exist.
    ("42501", Meaning::Denied),
    ("0LP01", Meaning::Denied),
    ("3D000", Meaning::Denied),
    ("22023", Meaning::Denied),
    // undefined_function.
    ("42883", Meaning::Missing),
    (UNDEFINED_TABLE, Meaning::Missing),
    (UNDEFINED_SCHEMA, Meaning::Missing),
    (UNDEFINED_OBJECT, Meaning::Missing),
    // duplicate_object, duplicate_table, duplicate_function.
    ("42710", Meaning::Exists),
    ("42P07", Meaning::Exists),
    ("42723", Meaning::Exists),
    (DUPLICATE_SCHEMA, Meaning::Exists),
    (STILL_NEEDED, Meaning::StillNeeded),
    ("P0001", Meaning::RefusedByTrigger),
    // Connection exception; insufficient resources (disk full, out of memory, too many connections); operator intervention
    // (shutdown, crash, starting up); system error (input or output failed).
    ("08", Meaning::Unavailable),
    ("53", Meaning::Unavailable),
    ("57", Meaning::Unavailable),
    ("58", Meaning::Unavailable),
    // Transaction rollback.
    ("40", Meaning::RolledBack),
    // Invalid authorization: wrong password, unknown login, pg_hba.conf.
    ("28", Meaning::Denied),
];

/// Looks a code up. `routine`: the server's function that raised it, which is the only part of an internal error that is not
/// translated.
pub fn resolve_meaning(code: &str, routine: Option<&str>) -> Meaning {
    // tuple concurrently updated or deleted: two changes of one catalog row at once.
    if code == "XX000" && matches!(routine, Some("simple_heap_update" | "simple_heap_delete")) {
        return Meaning::Contended;
    }
    let find = |wanted: &str| TABLE.iter().find(|(known, _)| *known == wanted).map(|(_, meaning)| *meaning);
    find(code).or_else(|| code.get(..2).and_then(find)).unwrap_or(Meaning::Statement)
}

/// Whether this answer to a COMMIT leaves open whether the transaction was committed: the server crashed, or a pooler lost its
/// server.
pub fn leaves_commit_open(code: &str) -> bool {
    code.starts_with("08") || matches!(code, "57P02" | "40003")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_table_is_found_and_stands_once() {
        for (at, (code, meaning)) in TABLE.iter().enumerate() {
            assert!(matches!(code.len(), 2 | 5), "{code}");
            assert!(TABLE.iter().skip(at + 1).all(|(other, _)| other != code), "{code} stands twice");
            let code = if code.len() == 2 { format!("{code}xyz") } else { (*code).to_owned() };
            assert_eq!(resolve_meaning(&code, None), *meaning, "{code}");
        }
    }

    #[test]
    fn a_server_that_can_not_serve_is_recognised() {
        // Read-only, disk full, out of memory, too many connections, shutdown, crash, starting up, input or output failed,
        // connection failure, ended for idling.
        for code in
            ["25006", "53100", "53200", "53300", "57P01", "57P02", "57P03", "57P05", "58030", "08006", "25P03", "25P04"]
        {
            assert_eq!(resolve_meaning(code, None), Meaning::Unavailable, "{code}");
        }
    }

    #[test]
    fn unknown_codes_mean_a_wrong_statement() {
        for code in ["", "4", "42601", "XX000", "ZZZZZ", "é1234"] {
            assert_eq!(resolve_meaning(code, Some("other")), Meaning::Statement, "{code}");
        }
        assert_eq!(resolve_meaning("XX000", Some("simple_heap_update")), Meaning::Contended);
    }
}
