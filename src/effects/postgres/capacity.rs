//! What the server allows, and what of it is taken: one round trip, every few minutes.

use super::{Database, PgError, instance::parse_one};
use crate::plan::instance::capacity::HeadroomFacts;

/// `reserved_connections` is there from 16 on. `pg_stat_activity` tells nobody the kind of other roles' sessions;
/// `pg_stat_database` counts them all.
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
    /// Asks the server for its limits.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn observe_headroom(&self) -> Result<HeadroomFacts, PgError> {
        const STEP: &str = "looking at the server's limits";
        let rows = self
            .read(STEP, |script| {
                script.as_base()?;
                script.add(LIMITS);
                Ok(())
            })
            .await?;
        parse_one(STEP, &rows)
    }
}
