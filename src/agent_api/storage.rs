//! What a tenant keeps, against what it may keep: shown, warned of, and refused.
//!
//! Only what adds data is refused, and only while the limit is reached. An answer that was paid for is stored.

use super::registry::tenant::DataAccess;
use axum::http::{HeaderName, HeaderValue};
use serde::Serialize;

/// Says, from `WARNED_FROM` on, how much is used of what: a dictionary as in RFC 9651, `used=943719, limit=1048576`.
pub const STORAGE_WARNING: HeaderName = HeaderName::from_static("storage-warning");

/// The part of the limit from which on clients are warned, in percent.
const WARNED_FROM: i128 = 90;

/// How much of its limit a tenant uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Little enough, or there is no limit.
    Free,
    /// So much that clients are warned.
    NearlyFull,
    /// All of it: what adds data is refused.
    Full,
}

impl Level {
    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::NearlyFull => "nearly_full",
            Self::Full => "full",
        }
    }
}

/// Bytes of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Most that the tenant may keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<i64>,
    /// What it keeps; unknown where its schema doesn't count yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
}

impl Storage {
    /// Of a tenant that keeps so much.
    pub fn of(place: &DataAccess, used_bytes: Option<i64>) -> Self {
        Self { limit_bytes: place.limits.storage_limit_bytes, used_bytes }
    }

    /// How much of the limit is used.
    pub fn level(self) -> Level {
        match (self.limit_bytes, self.used_bytes) {
            (Some(limit), Some(used)) if used >= limit => Level::Full,
            (Some(limit), Some(used)) if i128::from(used) * 100 >= i128::from(limit) * WARNED_FROM => Level::NearlyFull,
            (Some(_) | None, Some(_) | None) => Level::Free,
        }
    }

    /// The value of [`STORAGE_WARNING`], where clients are to be warned.
    pub fn warning(self) -> Option<HeaderValue> {
        let (Level::NearlyFull | Level::Full, Some(limit), Some(used)) =
            (self.level(), self.limit_bytes, self.used_bytes)
        else {
            return None;
        };
        HeaderValue::from_str(&format!("used={used}, limit={limit}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warned_from_nine_tenths_on_and_full_at_the_limit() {
        let of = |limit_bytes, used_bytes| Storage { limit_bytes, used_bytes };
        for (limit, used, level, warning) in [
            (1000, -5, Level::Free, None),
            (1000, 899, Level::Free, None),
            (1000, 900, Level::NearlyFull, Some("used=900, limit=1000")),
            (1000, 999, Level::NearlyFull, Some("used=999, limit=1000")),
            (1000, 1000, Level::Full, Some("used=1000, limit=1000")),
            (i64::MAX, i64::MAX - 1, Level::NearlyFull, Some("used=9223372036854775806, limit=9223372036854775807")),
        ] {
            let storage = of(Some(limit), Some(used));
            assert_eq!(storage.level(), level, "{storage:?}");
            assert_eq!(storage.warning().as_ref().map(|v| v.to_str().unwrap()), warning);
        }
        for storage in [of(None, Some(i64::MAX)), of(Some(0), None), of(None, None)] {
            assert_eq!((storage.level(), storage.warning()), (Level::Free, None), "{storage:?}");
        }
    }
}
