//! What one reconcile read. Every part is missing, ours, somebody else's, or could not be read.
//!
//! | file | what is there |
//! | --- | --- |
//! | `access` | owners, privileges and memberships of a tenant's role, schema and tables |
//! | `applied` | the migrations of a tenant that the ledger records |
//! | `data_owner` | the namespace that data belongs to |
//! | `recorded` | facts that earlier reconciles recorded in the status |
//! | `seen` | how one part was read |
//! | `takeover_grant` | a recorded permission to take over another cluster's tenant |
//! | `unplaced` | why a Tenant has no database instance |

pub(crate) mod access;
pub mod applied;
pub mod data_owner;
pub(crate) mod recorded;
mod seen;
pub mod takeover_grant;
pub mod unplaced;

use crate::domain::{
    ack::Replica,
    entry::{AgentEntry, TenantEntry},
    ident::{AgentName, CellNumber, DatabaseId, Incarnation, ObjectId, Uid, Version},
    keyring::{Keyring, KeyringError, KeyringMark, NewKey},
    keys::KeyBytes,
    resolve::AgentLookup,
};
use access::AccessFacts;
use applied::{Applied, MigrationFailure};
pub use recorded::{Recorded, ServedProof};
pub use seen::{Presence, ReadError, Seen};
use serde::Deserialize;
use std::collections::BTreeMap;
use takeover_grant::TakeoverGrant;
use unplaced::Unplaced;

/// What one reconcile of a Tenant saw.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedTenant {
    /// Whether there is an object at all.
    pub object: Presence,
    /// The finalizer is on the object.
    pub finalizer: bool,
    /// The older Tenant that claims the same tenant id, if there is one.
    pub rival: Option<ObjectId>,
    /// What earlier reconciles left in the object's status.
    pub recorded: Recorded,
    /// The instance that was read, or will be; `None` where it is not known.
    pub instance: Option<String>,
    /// The database.
    pub database: DatabaseView,
    /// The signing Secret in the Tenant's namespace; ownership is read from the label, not from the content.
    pub keys: Seen<KeysView>,
    /// The registry entry.
    pub entry: Seen<EntryView>,
    /// The AgentConfigs that the spec refers to.
    pub agents: BTreeMap<AgentName, AgentLookup>,
    /// The cell of this tenant (or the offered one): whether its entry is in the registry.
    pub cell_entry: bool,
    /// The replicas of the agent API.
    pub replicas: Replicas,
    /// This tenant has a slot in the rollout of a migration.
    pub admitted: bool,
    /// Material for new things: random, made for this reconcile, unused if nothing new is needed.
    pub fresh: Fresh,
}

impl ObservedTenant {
    /// The registry entry, where it is ours and can be read.
    pub fn readable_entry(&self) -> Option<&TenantEntry> {
        self.entry.ours()?.entry.as_ref()
    }

    /// The keyring of the signing Secret, where the Secret is ours and not damaged.
    pub fn readable_keyring(&self) -> Option<&Keyring> {
        self.keys.ours()?.keyring.as_ref().ok()
    }

    /// The ledger row of the tenant id, where the database answered and there is one.
    pub fn row(&self) -> Option<&LedgerRow> {
        self.database.facts()?.row.as_ref()
    }
}

/// The database of a tenant, as one reconcile saw it.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one per reconcile, and nearly always it holds facts")]
pub enum DatabaseView {
    /// It answered.
    Facts(LedgerFacts),
    /// It could not be asked, or is not fit for use.
    Unknown(ReadError),
    /// It is another database than the one this installation provisioned tenants in.
    Changed {
        /// The one that is expected.
        expected: DatabaseId,
        /// The one that answered; `None` if it has no control schema at all.
        found: Option<DatabaseId>,
    },
    /// There is no database to ask.
    Unplaced(Unplaced),
}

impl DatabaseView {
    /// What the database holds, where it answered.
    pub const fn facts(&self) -> Option<&LedgerFacts> {
        match self {
            Self::Facts(facts) => Some(facts),
            Self::Unknown(_) | Self::Changed { .. } | Self::Unplaced(_) => None,
        }
    }
}

/// What the database holds for one tenant, from one round trip.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerFacts {
    /// Identity of the database.
    pub database_id: DatabaseId,
    /// The ledger row of the tenant id.
    pub row: Option<LedgerRow>,
    /// Age of the last heartbeat of the row's cluster, in seconds; `None` without a row or a heartbeat.
    pub heartbeat_age_seconds: Option<u64>,
    /// Takeover grants: the Tenants that may take the row over from its present owner.
    pub permitted: Vec<TakeoverGrant>,
    /// The mark on the role: `None` if there is no such role, else its comment.
    pub role_mark: Option<String>,
    /// The mark on the schema.
    pub schema_mark: Option<String>,
    /// The migration that failed for the tenant, if it was not made up for.
    pub failure: Option<MigrationFailure>,
    /// Owners, privileges and memberships of a tenant in use, if its role and schema exist.
    pub access: Option<AccessFacts>,
    /// Transactions that hold locks on the schema's relations; asked for only while it is deleted or
    /// suspended, else 0.
    pub open_transactions: i64,
    /// Where a new tenant would go; present if there is no row, or only the tombstone of a dropped tenant, and no data of
    /// an earlier one was asked for.
    pub offer: Option<CellOffer>,
    /// What is archived of the tenant id: that of the Tenant that was asked for first, then the newest, at most six.
    /// Empty unless asked for.
    pub archives: Vec<Archive>,
}

impl LedgerFacts {
    /// The archive of an earlier Tenant.
    pub fn archive_of(&self, previous: &Uid) -> Option<&Archive> {
        self.archives.iter().find(|archive| archive.uid == *previous)
    }

    /// The cell that the tenant is in, or would be in; `previous` is the Tenant with the data that it asks for.
    pub fn cell(&self, previous: Option<&Uid>) -> Option<CellNumber> {
        let current = self.row.as_ref().filter(|row| row.state != RowState::Dropped).map(|row| row.cell);
        let archived = || previous.and_then(|uid| self.archive_of(uid)).map(|archive| archive.cell);
        current.or_else(archived).or(self.offer.map(|offer| offer.cell))
    }
}

/// Data of a deleted Tenant, put aside under another name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Archive {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// UID of the Tenant that owned it.
    pub uid: Uid,
    /// Namespace of that Tenant.
    pub namespace: String,
    /// Name of that Tenant.
    pub name: String,
    /// Cluster of that Tenant.
    pub cluster_id: String,
    /// Takeover grants: the Tenants that may take it over from another namespace.
    pub permitted: Vec<TakeoverGrant>,
    /// Its cell, which it keeps.
    pub cell: CellNumber,
    /// Its schema now.
    pub schema: String,
    /// Its role now.
    pub role: String,
    /// Version of its tables.
    pub schema_version: i32,
    /// Checksums of the files that made them, oldest first; empty where they were not noted.
    pub schema_checksums: Vec<String>,
    /// Version of its last keyring.
    pub ring_version: i32,
    /// The mark on the role: `None` if there is no such role, else its comment.
    pub role_mark: Option<String>,
    /// The mark on the schema.
    pub schema_mark: Option<String>,
}

/// The cell a new tenant would join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellOffer {
    /// Its number.
    pub cell: CellNumber,
    /// Its roles exist and are recorded in the control schema.
    pub exists: bool,
}

/// One row of the ledger: the ownership mark of a tenant's database objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// UID of the Tenant that owns it.
    pub uid: Uid,
    /// Namespace of that Tenant.
    pub namespace: String,
    /// Name of that Tenant.
    pub name: String,
    /// Which cluster it is in.
    pub cluster_id: String,
    /// Its cell.
    pub cell: CellNumber,
    /// Its schema.
    pub schema: String,
    /// Its role.
    pub role: String,
    /// Version of its tables.
    pub schema_version: i32,
    /// Checksums of the files that made them, oldest first; empty where they were not noted.
    pub schema_checksums: Vec<String>,
    /// The custom migrations that were applied to it.
    pub own: Applied,
    /// Its last keyring.
    pub keyring: KeyringMark,
    /// Where in its life it is.
    pub state: RowState,
    /// When it entered that state, by the database's clock.
    pub state_since: jiff::Timestamp,
}

/// Where in its life a tenant's data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// In use.
    Active,
    /// Out of service: access revoked until it is resumed.
    Suspended,
    /// Access revoked; open transactions are running out.
    Deleting,
    /// Tombstone: the Tenant is gone, its data was kept.
    Retained,
    /// Tombstone: the Tenant and its data are gone, or nothing was ever made.
    Dropped,
}

impl RowState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Active, Self::Suspended, Self::Deleting, Self::Retained, Self::Dropped];

    /// Whether a Tenant that is not being deleted has its data here.
    pub const fn in_use(self) -> bool {
        match self {
            Self::Active | Self::Suspended => true,
            Self::Deleting | Self::Retained | Self::Dropped => false,
        }
    }

    /// The word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleting => "deleting",
            Self::Retained => "retained",
            Self::Dropped => "dropped",
        }
    }

    /// Reads the word of the ledger.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// The comment on a tenant's role and schema. The same text means the same data.
pub fn render_mark(database_id: DatabaseId, incarnation: Incarnation) -> String {
    format!("agent-tenancy {database_id} {incarnation}")
}

/// The signing Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct KeysView {
    /// Its UID.
    pub uid: Uid,
    /// Its version.
    pub version: Version,
    /// Its content, or how it is damaged.
    pub keyring: Result<Keyring, KeyringError>,
}

/// A tenant's registry entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryView {
    /// UID of the Secret.
    pub secret_uid: Uid,
    /// Version of the Secret.
    pub version: Version,
    /// Its content; `None` if somebody damaged it.
    pub entry: Option<TenantEntry>,
}

/// The replicas of the agent API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Every one, by name.
    pub all: Vec<Replica>,
    /// The installation runs none on purpose.
    pub none_wanted: bool,
}

/// Random material for one reconcile, made by `effects::entropy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fresh {
    /// For a new tenant.
    pub incarnation: Incarnation,
    /// A new key, of the algorithm that the spec asks for.
    pub key: NewKey,
    /// For the login of a new cell.
    pub password: KeyBytes,
}

/// What one reconcile of an AgentConfig saw.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedAgent {
    /// Whether there is an object at all.
    pub object: Presence,
    /// The finalizer is on the object.
    pub finalizer: bool,
    /// The entry version that was proved to be served, from the status.
    pub served: Option<Version>,
    /// The registry entry.
    pub entry: Seen<AgentEntryView>,
    /// The credential, if the spec names one.
    pub credential: Seen<Credential>,
    /// Hashes of the credential entries in the registry to which no other AgentConfig's entry refers, with the version
    /// of their Secrets. The one that this AgentConfig uses now may be among them.
    pub unused_upstreams: BTreeMap<String, Version>,
    /// The credential entry for the current credential is in the registry.
    pub upstream_published: bool,
    /// Its revisions, newest last.
    pub revisions: Seen<Vec<RevisionView>>,
    /// Tenants with an entry that refers to it, by name; at most 10, enough for a message. A Tenant that only names it in its
    /// spec is not one: its status says that the AgentConfig is being deleted, and two objects must not wait for each other.
    pub users: Vec<String>,
    /// When the last entry stopped referring to it, or to one of the unused credentials.
    pub last_reference: LastReference,
    /// The replicas of the agent API.
    pub replicas: Replicas,
}

/// When the last reference to an entry went away: what a replica may still act on that has not come that far. All zero
/// where that is not known (after a restart): replicas ignore the deletion of what a loaded entry refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LastReference {
    /// The version of the registry.
    pub version: Version,
    /// The time; bounded waits count from here.
    pub since: jiff::Timestamp,
}

/// An AgentConfig's registry entry.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentEntryView {
    /// UID of the Secret.
    pub secret_uid: Uid,
    /// Version of the Secret.
    pub version: Version,
    /// Its content; `None` if somebody damaged it.
    pub entry: Option<AgentEntry>,
}

/// A provider's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Hash that names its entry.
    pub hash: String,
    /// The key.
    pub api_key: KeyBytes,
}

/// One revision of an AgentConfig, kept as a ControllerRevision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionView {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// Hash of its behaviour.
    pub hash: String,
}
