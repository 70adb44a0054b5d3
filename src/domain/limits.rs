//! What a tenant may use of its database: resolved from its spec, published in its entry, applied by the agent API.

use super::{quantity::parse_bytes, violation::Violations};
use crate::api::TenantDatabase;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a tenant may use of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseLimits {
    /// Maximum number of concurrent transactions in one replica.
    pub max_concurrent_transactions: i32,
    /// Maximum duration of one SQL statement.
    pub statement_timeout_seconds: i32,
    /// Maximum number of bytes that the tenant may store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_limit_bytes: Option<i64>,
}

impl DatabaseLimits {
    /// The limits in the entry of a tenant that is being deleted, when its limits are unknown.
    pub(crate) const UNKNOWN: Self =
        Self { max_concurrent_transactions: 1, statement_timeout_seconds: 1, storage_limit_bytes: None };

    pub(super) fn resolve(spec: &TenantDatabase, wrong: &mut Violations) -> Self {
        let path = |field: &str| format!("spec.database.{field}");
        let (transactions, seconds) = (spec.max_concurrent_transactions, spec.statement_timeout_seconds);
        wrong.check_number(path("maxConcurrentTransactions"), transactions, TenantDatabase::TRANSACTIONS);
        wrong.check_number(path("statementTimeoutSeconds"), seconds, TenantDatabase::STATEMENT_SECONDS);
        Self {
            max_concurrent_transactions: transactions,
            statement_timeout_seconds: seconds,
            storage_limit_bytes: spec.storage_limit.as_deref().and_then(|text| resolve_storage_limit(text, wrong)),
        }
    }

    /// How many transactions the tenant may run at once in one replica; at least one.
    pub fn transactions(&self) -> usize {
        self.max_concurrent_transactions.max(1).unsigned_abs() as usize
    }

    /// How long a statement may run; at least one second.
    pub(crate) fn statement_timeout(&self) -> Duration {
        Duration::from_secs(self.statement_timeout_seconds.max(1).unsigned_abs().into())
    }
}

fn resolve_storage_limit(text: &str, wrong: &mut Violations) -> Option<i64> {
    let bounds = TenantDatabase::STORAGE_LIMIT;
    let (least, most) = (parse_bytes(bounds.min), parse_bytes(bounds.max));
    let bytes = parse_bytes(text).filter(|bytes| least <= Some(*bytes) && Some(*bytes) <= most);
    if bytes.is_none() {
        let rule = format!("must be a whole number of bytes from {} to {}", bounds.min, bounds.max);
        wrong.add("spec.database.storageLimit", rule);
    }
    bytes
}
