//! The statements on what a tenant changed itself. Columns are always named, values always bound; each function is one
//! statement.

use super::{Connection, Transaction, statements::StoredSettings};
use sqlx::{Row, types::Json};

/// Reads what the tenant changed itself; and how many bytes it keeps, if its schema counts them.
#[derive(Clone, Copy, Debug)]
pub struct ReadSettings {
    /// Whether the schema counts.
    pub counts: bool,
}

impl Transaction for ReadSettings {
    type Output = (StoredSettings, Option<i64>);

    async fn run(&self, at: Connection<'_>) -> Result<Self::Output, sqlx::Error> {
        let (connection, query) = at.query(if self.counts {
            "SELECT coalesce(jsonb_object_agg(name, value), '{}'), \
                    (SELECT coalesce(sum(bytes), 0)::int8 FROM storage) FROM settings"
        } else {
            "SELECT coalesce(jsonb_object_agg(name, value), '{}'), NULL::int8 FROM settings"
        });
        let row = query.fetch_one(connection).await?;
        let Json(settings) = row.try_get(0)?;
        Ok((settings, row.try_get(1)?))
    }
}

/// A change.
#[derive(Clone, Debug)]
pub struct SettingsChange {
    /// What is set.
    pub set: StoredSettings,
    /// What is removed.
    pub remove: Vec<String>,
    /// The user who changes them.
    pub by: String,
    /// Whether the schema counts what the tenant keeps.
    pub counts: bool,
    /// From how many bytes on nothing is changed, if that is limited; only where the schema counts.
    pub limit: Option<i64>,
}

/// The result of a change.
#[derive(Clone, Debug)]
pub struct SettingsChanged {
    /// What is stored then; `None`: the tenant keeps as much as it may, and nothing was changed.
    pub stored: Option<StoredSettings>,
    /// How many bytes the tenant keeps then, if its schema counts them.
    pub used: Option<i64>,
}

/// A statement sees the tables as they were before: what it removes or sets is laid over that. `room` has a row where the
/// change may be made.
macro_rules! change {
    ($room:literal, $used:literal) => {
        concat!(
            "WITH ",
            $room,
            ", gone AS (DELETE FROM settings WHERE name = ANY ($2::text[]) AND EXISTS (SELECT FROM room)), \
             stored AS (INSERT INTO settings (name, value, updated_by) \
                SELECT e.key, e.value, $3 FROM jsonb_each($1) e, room \
                ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_by = excluded.updated_by, \
                   updated_at = now()) \
             SELECT (SELECT (SELECT coalesce(jsonb_object_agg(s.name, s.value), '{}') FROM settings s \
                       WHERE s.name <> ALL ($2::text[])) || $1 FROM room), ",
            $used
        )
    };
}

const CHANGE: &str = change!("room AS (SELECT)", "NULL::int8");

const CHANGE_AND_COUNT: &str = change!(
    "used AS (SELECT coalesce(sum(s.bytes), 0)::int8 AS bytes FROM storage s), \
     room AS (SELECT FROM used u WHERE u.bytes < $4::int8), \
     more AS (SELECT coalesce(sum(octet_length(e.value::text)), 0) AS bytes FROM jsonb_each($1) e), \
     less AS (SELECT coalesce(sum(octet_length(s.value::text)), 0) AS bytes FROM settings s \
        WHERE s.name = ANY ($2::text[]) OR s.name IN (SELECT e.key FROM jsonb_each($1) e))",
    "(SELECT CASE WHEN EXISTS (SELECT FROM room) THEN u.bytes + m.bytes - l.bytes ELSE u.bytes END \
        FROM used u, more m, less l)::int8"
);

/// Sets and removes settings in one statement, unless the tenant keeps as much as it may.
impl Transaction for SettingsChange {
    type Output = SettingsChanged;

    async fn run(&self, at: Connection<'_>) -> Result<SettingsChanged, sqlx::Error> {
        let (connection, query) = at.query(if self.counts { CHANGE_AND_COUNT } else { CHANGE });
        let mut query = query.bind(Json(self.set.clone())).bind(self.remove.clone()).bind(self.by.clone());
        if self.counts {
            query = query.bind(self.limit.unwrap_or(i64::MAX));
        }
        let row = query.fetch_one(connection).await?;
        let stored: Option<Json<StoredSettings>> = row.try_get(0)?;
        Ok(SettingsChanged { stored: stored.map(|Json(stored)| stored), used: row.try_get(1)? })
    }
}
