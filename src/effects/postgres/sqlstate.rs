//! The class of each SQLSTATE, in one table. Codes and names: PostgreSQL manual, appendix A
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>). The functions of the control schema raise `AT…`.

use crate::domain::class::ErrorClass;

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
/// `duplicate_schema`.
pub const DUPLICATE_SCHEMA: &str = "42P06";
/// `unique_violation`.
pub const UNIQUE_VIOLATION: &str = "23505";
/// `query_canceled`: the statement timed out.
pub const CANCELED: &str = "57014";
/// `syntax_error`: its message quotes the statement.
pub const SYNTAX_ERROR: &str = "42601";
/// `read_only_sql_transaction`: the server became a standby.
pub const READ_ONLY: &str = "25006";
/// `dependent_objects_still_exist`.
pub const STILL_NEEDED: &str = "2BP01";
/// `undefined_table`.
pub const UNDEFINED_TABLE: &str = "42P01";
/// `invalid_schema_name`.
pub const UNDEFINED_SCHEMA: &str = "3F000";

/// Class of a code. `routine`: the server's function that raised it, which is the only part of an internal error that is
/// not translated.
pub fn classify(code: &str, routine: Option<&str>) -> ErrorClass {
    match code {
        FENCED | MOVED_ON => ErrorClass::Transient,
        ALREADY_DONE => ErrorClass::Bug,
        FOREIGN_ROW | FOREIGN_MARK | DEPENDENTS | LOST => ErrorClass::Conflict,
        // duplicate_object, duplicate_schema, duplicate_table, duplicate_function: created by another role.
        "42710" | DUPLICATE_SCHEMA | "42P07" | "42723" => ErrorClass::Conflict,
        // undefined_table, invalid_schema_name, undefined_object, undefined_function: dropped by another role.
        UNDEFINED_TABLE | UNDEFINED_SCHEMA | "42704" | "42883" => ErrorClass::Conflict,
        STILL_NEEDED => ErrorClass::Conflict,
        // insufficient_privilege, invalid_grant_operation, invalid_catalog_name (no such database), and
        // invalid_parameter_value, which SET ROLE reports for a role that does not exist.
        "42501" | "0LP01" | "3D000" | "22023" => ErrorClass::Denied,
        // lock_not_available, object_in_use, query_canceled (statement_timeout), read_only_sql_transaction (failover),
        // unique_violation (two changes of one catalog row at once).
        "55P03" | "55006" | CANCELED | READ_ONLY | UNIQUE_VIOLATION => ErrorClass::Transient,
        // tuple concurrently updated or deleted: two changes of one catalog row at once.
        "XX000" if matches!(routine, Some("simple_heap_update" | "simple_heap_delete")) => ErrorClass::Transient,
        code => match code.get(..2) {
            // Connection exception, transaction rollback, insufficient resources, operator intervention (shutdown,
            // crash, starting up), system error.
            Some("08" | "40" | "53" | "57" | "58") => ErrorClass::Transient,
            // Invalid authorization: wrong password, unknown login, pg_hba.conf.
            Some("28") => ErrorClass::Denied,
            _ => ErrorClass::Bug,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_away_by_itself_is_retried() {
        for code in
            ["08006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "58030", FENCED, MOVED_ON]
        {
            assert_eq!(classify(code, None), ErrorClass::Transient, "{code}");
        }
        assert_eq!(classify("XX000", Some("simple_heap_update")), ErrorClass::Transient);
        assert_eq!(classify("XX000", Some("other")), ErrorClass::Bug);
    }

    #[test]
    fn a_missing_right_waits_for_people_and_a_foreign_object_is_a_conflict() {
        for code in ["28P01", "28000", "3D000", "42501"] {
            assert_eq!(classify(code, None), ErrorClass::Denied, "{code}");
        }
        for code in [FOREIGN_ROW, FOREIGN_MARK, DEPENDENTS, LOST, "42710"] {
            assert_eq!(classify(code, None), ErrorClass::Conflict, "{code}");
        }
        assert_eq!(classify(SYNTAX_ERROR, None), ErrorClass::Bug);
        assert_eq!(classify("", None), ErrorClass::Bug);
    }
}
