//! The entries of the tenant registry: one Secret each, with one JSON document. The operator writes them, and every
//! replica of the agent API reads them. Readers ignore unknown fields; the writer uses the lowest format that all
//! readers know.

use super::{
    decimal::Decimal,
    ident::{AgentName, CellNumber, DatabaseId, Epoch, Incarnation, ObjectId, TenantId, Uid},
    keyring::PublishedKeyring,
    keys::{KeyBytes, Kid, VerificationKey},
    limits::DatabaseLimits,
    location::DataLocation,
    logins::LoginMark,
    tokens::TokenRules,
};
use crate::api::MutableSetting;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use super::behaviour::{AgentEntry, AgentRevision, Behaviour, Provider, behaviour_hash, credential_hash};

/// The highest entry format that this version reads.
pub const FORMAT: u32 = 2;
/// The lowest entry format. Entries that need no later one are written in it, because every replica reads it.
pub const FIRST_FORMAT: u32 = 1;
/// The lowest format of an entry with a hash of the tenant's id in its name. Earlier replicas refuse such an entry.
const HASHED_NAME_FORMAT: u32 = 2;

/// Kind of an entry: value of the entry label and first part of the Secret's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// One tenant: `tenant-<tenantId>`, or `tenant-<hash>`; see [`TenantId::entry_name`].
    Tenant,
    /// One AgentConfig: `agent-<uid>`.
    Agent,
    /// One provider credential: `upstream-<hash>`.
    Upstream,
    /// One cell's login: `cell-<instance>-<n>`.
    Cell,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Agent, Self::Upstream, Self::Cell];

    /// Label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Upstream => "upstream",
            Self::Cell => "cell",
        }
    }

    /// Parses a label value.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

/// One parsed entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A tenant.
    Tenant(Box<TenantEntry>),
    /// An AgentConfig.
    Agent(Box<AgentEntry>),
    /// A provider credential.
    Upstream(UpstreamEntry),
    /// A cell's login.
    Cell(CellEntry),
}

/// Why a document is not an entry. The message never quotes the document, which contains secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("the entry does not parse (line {line}, column {column})")]
    Malformed {
        /// Line of the first error.
        line: usize,
        /// Column of the first error.
        column: usize,
    },
    /// The entry has a format that this version does not read.
    #[error("the entry has format {found}, this version reads up to {FORMAT}")]
    Format {
        /// The entry's format.
        found: u32,
    },
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Entry {
    /// Parses a document of a known kind.
    ///
    /// # Errors
    /// When it is not an entry of that kind or of a newer format.
    pub fn parse(kind: EntryKind, json: &[u8]) -> Result<Self, EntryError> {
        let malformed = |e: serde_json::Error| EntryError::Malformed { line: e.line(), column: e.column() };
        let FormatOnly { format } = serde_json::from_slice(json).map_err(malformed)?;
        if format > FORMAT {
            return Err(EntryError::Format { found: format });
        }
        Ok(match kind {
            EntryKind::Tenant => Self::Tenant(serde_json::from_slice(json).map_err(malformed)?),
            EntryKind::Agent => Self::Agent(serde_json::from_slice(json).map_err(malformed)?),
            EntryKind::Upstream => Self::Upstream(serde_json::from_slice(json).map_err(malformed)?),
            EntryKind::Cell => Self::Cell(serde_json::from_slice(json).map_err(malformed)?),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Tenant(_) => EntryKind::Tenant,
            Self::Agent(_) => EntryKind::Agent,
            Self::Upstream(_) => EntryKind::Upstream,
            Self::Cell(_) => EntryKind::Cell,
        }
    }

    /// Name of its Secret.
    pub fn name(&self) -> String {
        match self {
            Self::Tenant(e) => e.entry_name(),
            Self::Agent(e) => agent_entry_name(&e.uid),
            Self::Upstream(e) => upstream_entry_name(&e.hash),
            Self::Cell(e) => cell_entry_name(&e.instance, e.cell),
        }
    }

    /// The JSON document. Maps are ordered, so equal content gives equal bytes.
    pub fn render(&self) -> Vec<u8> {
        match self {
            Self::Tenant(e) => serde_json::to_vec(e),
            Self::Agent(e) => serde_json::to_vec(e),
            Self::Upstream(e) => serde_json::to_vec(e),
            Self::Cell(e) => serde_json::to_vec(e),
        }
        .unwrap_or_default()
    }
}

/// Name of an AgentConfig's entry.
pub fn agent_entry_name(uid: &Uid) -> String {
    format!("agent-{uid}")
}

/// Name of a credential's entry.
pub fn upstream_entry_name(hash: &str) -> String {
    format!("upstream-{hash}")
}

/// Name of a cell's entry.
pub fn cell_entry_name(instance: &str, cell: CellNumber) -> String {
    format!("cell-{instance}-{cell}")
}

/// Whether a tenant may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TenantState {
    /// Served.
    Active,
    /// Requests are answered with 403.
    Suspended,
    /// Requests are answered with 410; the entry will be deleted.
    Deleting,
}

/// A tenant, as the agent API needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantEntry {
    /// Entry format.
    pub format: u32,
    /// The tenant's id.
    pub tenant_id: TenantId,
    /// Identity of the tenant's data, and the key of caches, cursors and counters.
    pub incarnation: Incarnation,
    /// UID of the Tenant.
    pub uid: Uid,
    /// Namespace of the Tenant.
    pub namespace: String,
    /// Name of the Tenant.
    pub name: String,
    /// Generation of the spec that the entry was created from.
    pub generation: i64,
    /// Epoch of the leader that last wrote the entry. It is not compared.
    pub epoch: Epoch,
    /// Whether it may be served.
    pub state: TenantState,
    /// When the tenant entered `state`. Timeouts start here.
    pub state_since: jiff::Timestamp,
    /// Location and limits of its data.
    pub database: EntryDatabase,
    /// Its agents, by the names in its requests.
    pub agents: BTreeMap<AgentName, EntryAgent>,
    /// The agent that answers requests which name none.
    pub default_agent: AgentName,
    /// Settings that the tenant may change itself.
    pub mutable: BTreeSet<MutableSetting>,
    /// What its tokens must contain.
    pub auth: TokenRules,
    /// The keys that verify its tokens.
    pub keys: Vec<VerificationKey>,
    /// Revoked kids, and when each was revoked. They verify nothing, even if `keys` contains them.
    #[serde(default)]
    pub revoked_kids: BTreeMap<Kid, jiff::Timestamp>,
    /// Version of the keyring of these keys.
    #[serde(default)]
    pub ring_version: i32,
    /// The last rotation request that the keyring fulfilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_request: Option<String>,
}

impl TenantEntry {
    /// Format of a tenant's entry; `recorded` is the one that it has, if it has any. It never decreases, and stays where
    /// an earlier version has named the entry by the first format's rule.
    pub fn resolve_format(id: &TenantId, recorded: Option<u32>) -> u32 {
        let needed = if id.is_plain() { FIRST_FORMAT } else { HASHED_NAME_FORMAT };
        match recorded {
            Some(recorded) if id.earlier_entry_name().is_some() => recorded,
            Some(_) | None => needed,
        }
    }

    /// Name of its Secret. In the first format, an id that looks like a hash is a part of the name.
    pub fn entry_name(&self) -> String {
        let earlier = self.tenant_id.earlier_entry_name().filter(|_| self.format < HASHED_NAME_FORMAT);
        earlier.unwrap_or_else(|| self.tenant_id.entry_name())
    }

    /// The published part of the tenant's keyring.
    pub fn keyring(&self) -> PublishedKeyring<'_> {
        PublishedKeyring {
            version: self.ring_version,
            request: self.ring_request.as_deref(),
            revoked: &self.revoked_kids,
            keys: &self.keys,
        }
    }

    /// The Tenant of this entry.
    pub fn object(&self) -> ObjectId {
        ObjectId { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// Location and limits of a tenant's data: one object of the document, with the fields of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDatabase {
    /// Where the data is.
    #[serde(flatten)]
    pub location: DataLocation,
    /// What the tenant may use.
    #[serde(flatten)]
    pub limits: DatabaseLimits,
}

/// One agent of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryAgent {
    /// UID of the AgentConfig. [`agent_entry_name`] gives the name of its entry.
    pub config_uid: Uid,
    /// Parameters that differ from the AgentConfig.
    #[serde(default)]
    pub overrides: Overrides,
}

/// Parameters that differ from the AgentConfig, set by the Tenant or by the tenant itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overrides {
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Decimal>,
    /// Nucleus sampling, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Decimal>,
    /// Maximum number of tokens in one answer; the AgentConfig's value stays the ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i32>,
    /// Text that is appended to the system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// A provider credential, shared by the AgentConfigs of a namespace that have the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamEntry {
    /// Entry format.
    pub format: u32,
    /// Hash of namespace and key, which names the entry. Two namespaces never share one.
    pub hash: String,
    /// The API key.
    pub api_key: KeyBytes,
}

/// How the agent API logs in to a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CellEntry {
    /// Entry format.
    pub format: u32,
    /// Name of the database in the operator's settings.
    pub instance: String,
    /// Identity of the database when the cell was created.
    pub database_id: DatabaseId,
    /// Number of the cell.
    pub cell: CellNumber,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// TLS as in libpq's `sslmode`: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub ssl_mode: String,
    /// Login role.
    pub user: String,
    /// Its password.
    pub password: KeyBytes,
    /// Which login of which rotation this is. Absent in entries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginMark>,
}

#[cfg(test)]
mod tests;
