//! A Tenant that an administrator allowed to take over the data of another cluster or namespace, as the ledger records.

use crate::domain::ident::Uid;
use crate::plan::installation::Installation;
use serde::Deserialize;

/// A Tenant that may take over data from its present owner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TakeoverGrant {
    /// Its cluster.
    pub cluster_id: String,
    /// Its UID.
    pub uid: Uid,
}

impl TakeoverGrant {
    /// Whether it is this cluster's Tenant with that UID.
    pub fn is(&self, uid: &Uid, installation: &Installation) -> bool {
        self.cluster_id == installation.cluster_id && self.uid == *uid
    }
}
