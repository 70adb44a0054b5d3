//! What every reconcile knows beside the objects.

use crate::domain::{
    custom_migrations::CustomMigrations,
    ident::{Epoch, NamePrefix},
};

/// What every reconcile needs to know of the installation and of this leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The database instance that the tenant of this reconcile is in; the first of the settings where that is not known.
    pub instance: InstanceTraits,
    /// The other instances of the settings.
    pub others: Vec<InstanceTraits>,
    /// Which cluster this is.
    pub cluster_id: String,
    /// The clusters that it replaces.
    pub predecessors: Predecessors,
    /// The epoch of this leader.
    pub epoch: Epoch,
    /// Version of the program's tables that tenants get.
    pub schema_version: i32,
    /// The custom migrations; `None` where there are none, or they could not be read.
    pub custom_migrations: Option<CustomMigrations>,
    /// How long a signer may use a key after reading it, in seconds.
    pub signer_grace_seconds: i64,
    /// How long a deletion waits for a replica, and for open transactions, in seconds.
    pub ack_timeout_seconds: i64,
}

/// What differs from one database instance to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceTraits {
    /// Its name.
    pub name: String,
    /// Prefix of roles and schemas.
    pub prefix: NamePrefix,
    /// How long an archive is kept, in seconds.
    pub archive_seconds: i64,
}

impl Installation {
    /// The same for a tenant of this instance.
    #[must_use]
    pub fn at(mut self, instance: Option<&str>) -> Self {
        let found = self.others.iter_mut().find(|other| Some(other.name.as_str()) == instance);
        if let Some(other) = found {
            std::mem::swap(other, &mut self.instance);
        }
        self
    }
}

/// The clusters that this one replaces.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Predecessors {
    /// Their ids in the ledger.
    pub cluster_ids: Vec<String>,
    /// How long a cluster must have had no heartbeat before its tenants may be taken over, in seconds.
    pub heartbeat_timeout_seconds: u64,
}
