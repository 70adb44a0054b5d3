//! The limits of the server and how much of them is used. One round trip, every few minutes.

use super::{Database, PgError, instance::parse_one};
use crate::plan::instance::capacity::HeadroomFacts;

/// `reserved_connections` exists since version 16. `pg_stat_activity` hides the kind of other roles' sessions;
/// `pg_stat_database` counts all of them.
const LIMITS: &str = "
SELECT json_build_object(
    'max_connections', current_setting('max_connections')::int,
    'reserved_connections', current_setting('superuser_reserved_connections')::int
        + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int,
    'connections', (SELECT coalesce(sum(d.numbackends), 0) FROM pg_stat_database d),
    'lock_slots', current_setting('max_locks_per_transaction')::bigint
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
    'tables', (SELECT count(*) FROM pg_class k WHERE k.relkind IN ('r', 'p'))
)::text;";

impl Database {
    /// Reads the limits of the server.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub async fn observe_headroom(&self) -> Result<HeadroomFacts, PgError> {
        const STEP: &str = "reading the server's limits";
        let rows = self
            .read(STEP, |sql| {
                sql.as_base()?;
                sql.add(LIMITS);
                Ok(())
            })
            .await?;
        parse_one(STEP, &rows)
    }
}
