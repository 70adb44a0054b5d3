//! The tenant registry as this replica serves it: an immutable [`Snapshot`] behind one pointer.
//!
//! ```text
//! kube | directory  --RegistryEvent-->  follow  -->  RegistryIndex (the rules)  -->  Snapshot (requests read it)
//!                                                            `-->  Acknowledgement (the operator reads it)
//! ```

pub mod directory;
pub mod follow;
pub mod index;
pub mod kube;
mod shards;
mod shared;
pub mod status;
pub mod tenant;
mod unique;

#[cfg(test)]
mod tests;

use crate::domain::{
    entry::{AgentEntry, CellEntry, EntryKind, UpstreamEntry},
    ident::{TenantId, Uid, Version},
    keys::Kid,
};
use shards::Shards;
use std::sync::Arc;
use tenant::{Tenant, VerifyKey};
use zeroize::Zeroizing;

/// What a request can see. Copies share nearly everything.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Tenants by id.
    pub tenants: Shards<TenantId, Arc<Tenant>>,
    /// Every key that verifies, with the tenant that owns it.
    pub keys: Shards<Kid, Arc<VerifyKey>>,
    /// AgentConfigs by UID.
    pub agents: Shards<Uid, Arc<AgentEntry>>,
    /// Provider credentials by hash.
    pub upstreams: Shards<String, Arc<UpstreamEntry>>,
    /// Cells by entry name; only those with a login that worked once.
    pub cells: Shards<String, Arc<Cell>>,
}

/// A cell's login that is known to work.
pub struct Cell {
    /// Name of its entry.
    pub name: String,
    /// The version of the entry that holds this login: connections of an older one are not used again.
    pub version: Version,
    /// The login.
    pub entry: CellEntry,
}

/// One entry as a source delivers it.
pub struct RawEntry {
    /// Name of the Secret, or of the file without `.json`.
    pub name: String,
    /// Its kind.
    pub kind: EntryKind,
    /// Its version.
    pub version: Version,
    /// Its content; wiped when dropped.
    pub content: Zeroizing<Vec<u8>>,
}

/// What a source delivers, in order.
pub enum RegistryEvent {
    /// All entries there are.
    Listed {
        /// The entries.
        entries: Vec<RawEntry>,
        /// Version of the list.
        version: Version,
    },
    /// One entry is new or different.
    Applied(RawEntry),
    /// One entry is gone.
    Deleted {
        /// Its name.
        name: String,
        /// Version of the deletion.
        version: Version,
    },
    /// Nothing more has happened up to this version.
    Progress(Version),
}
