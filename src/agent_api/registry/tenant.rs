//! A tenant as requests use it: everything that can be computed once is computed when its entry is applied.

use crate::{
    api::MutableSetting,
    domain::{
        entry::{EntryAgent, EntryDatabase, TenantEntry, TenantState, cell_entry_name},
        ident::{AgentName, Incarnation, TenantId},
        keys::{Algorithm, Kid},
        limits::DatabaseLimits,
        migrations::{STORAGE_SINCE, USAGE_MODEL_SINCE},
        sql::{QuoteError, quote_ident},
        tokens::TokenRules,
    },
};
use jsonwebtoken::DecodingKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;

/// Whether this replica can serve a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// It can.
    Served,
    /// It can't, for this reason; requests are answered with 503.
    Unserved(String),
}

/// A loaded tenant.
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Identity of its data.
    pub incarnation: Incarnation,
    /// Whether it may be served.
    pub state: TenantState,
    /// Whether this replica can serve it.
    pub service: Service,
    /// Its agents.
    pub agents: BTreeMap<AgentName, EntryAgent>,
    /// The agent for requests that name none.
    pub default_agent: AgentName,
    /// What it may change itself.
    pub mutable: BTreeSet<MutableSetting>,
    /// Where its data is.
    pub place: DataAccess,
}

/// What this replica allows every tenant.
#[derive(Clone, Copy, Debug)]
pub struct TenantCaps {
    /// Most transactions at once, whatever the Tenant says: a part of this replica's connections.
    pub transactions: usize,
    /// After how long the server ends a transaction that is idle.
    pub idle_in_transaction: Duration,
}

/// Where a tenant's data is, and how to get there.
pub struct DataAccess {
    /// Name of its cell's entry.
    pub cell: String,
    /// Begins a transaction as the tenant's role, in its schema, with its timeouts: one round trip.
    pub begin: Arc<str>,
    /// One permit per transaction that it may run at once in this replica.
    pub permits: Arc<Semaphore>,
    /// Whether its schema counts its bytes.
    pub counts_storage: bool,
    /// Whether its usage has columns for the model and the client's request id.
    pub records_model: bool,
    /// What it may use.
    pub limits: DatabaseLimits,
}

/// A key that verifies a tenant's tokens, and the rules for them.
pub struct VerifyKey {
    /// Its id.
    pub kid: Kid,
    /// The one algorithm it verifies.
    pub algorithm: Algorithm,
    /// The key, prepared.
    pub key: DecodingKey,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// What the tenant's tokens have to contain.
    pub rules: Arc<TokenRules>,
}

impl DataAccess {
    /// The limit that can be held: none where the schema doesn't count.
    pub fn held_limit(&self) -> Option<i64> {
        self.limits.storage_limit_bytes.filter(|_| self.counts_storage)
    }
}

impl Tenant {
    /// Prepares a tenant. `before` is what was loaded so far: its running transactions count on.
    ///
    /// # Errors
    /// When schema or role can't be an identifier.
    pub fn new(
        entry: &TenantEntry,
        service: Service,
        caps: TenantCaps,
        before: Option<&Self>,
    ) -> Result<Self, QuoteError> {
        let EntryDatabase { location, limits } = &entry.database;
        let permits = before
            .filter(|b| b.incarnation == entry.incarnation && b.place.limits.transactions() == limits.transactions())
            .map_or_else(
                || Arc::new(Semaphore::new(limits.transactions().min(caps.transactions))),
                |b| Arc::clone(&b.place.permits),
            );
        // pg_temp last: a temporary table that another tenant left on the connection must never be found first.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL ROLE {}; SET LOCAL search_path = {}, pg_temp; SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            quote_ident(&location.role)?,
            quote_ident(&location.schema)?,
            limits.statement_timeout().as_millis(),
            caps.idle_in_transaction.as_millis(),
        );
        Ok(Self {
            id: entry.tenant_id.clone(),
            incarnation: entry.incarnation,
            state: entry.state,
            service,
            agents: entry.agents.clone(),
            default_agent: entry.default_agent.clone(),
            mutable: entry.mutable.clone(),
            place: DataAccess {
                cell: cell_entry_name(&location.instance, location.cell),
                begin: begin.into(),
                permits,
                counts_storage: location.schema_version >= STORAGE_SINCE,
                records_model: location.schema_version >= USAGE_MODEL_SINCE,
                limits: *limits,
            },
        })
    }
}

/// Prepares a tenant's keys, without the revoked ones.
pub fn prepare_keys(entry: &TenantEntry, revoked: &BTreeSet<Kid>) -> Vec<Arc<VerifyKey>> {
    let rules = Arc::new(entry.auth.clone());
    let keys = entry.keys.iter().filter(|k| !revoked.contains(&k.kid));
    keys.map(|k| {
        Arc::new(VerifyKey {
            kid: k.kid.clone(),
            algorithm: k.algorithm,
            key: match k.algorithm {
                Algorithm::HS256 => DecodingKey::from_secret(k.key.expose()),
                Algorithm::EdDSA => DecodingKey::from_ed_der(k.key.expose()),
                Algorithm::ES256 => DecodingKey::from_ec_der(k.key.expose()),
            },
            tenant: entry.tenant_id.clone(),
            rules: Arc::clone(&rules),
        })
    })
    .collect()
}
