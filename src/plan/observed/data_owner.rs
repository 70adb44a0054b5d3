//! The namespace that data in the database belongs to.

use super::{Archive, LedgerRow};
use crate::{domain::ident::ObjectId, plan::installation::Installation};

/// The message about a tenant id of another namespace. It says nothing about the owner.
pub(crate) const TAKEN: &str = "this tenant id is taken; choose another tenant id";

/// The namespace, in its cluster, of the Tenant that has or had data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataOwner<'a> {
    /// The cluster.
    pub cluster_id: &'a str,
    /// The namespace.
    pub namespace: &'a str,
}

impl DataOwner<'_> {
    /// Whether it is the namespace of this object. A namespace of a cluster that this one replaces is the same one.
    pub fn is_namespace_of(self, object: &ObjectId, installation: &Installation) -> bool {
        self.namespace == object.namespace
            && (self.cluster_id == installation.cluster_id
                || installation.predecessors.cluster_ids.iter().any(|id| id == self.cluster_id))
    }
}

impl LedgerRow {
    /// The owner of the data.
    pub fn owner(&self) -> DataOwner<'_> {
        DataOwner { cluster_id: &self.cluster_id, namespace: &self.namespace }
    }
}

impl Archive {
    /// The owner of the data.
    pub fn owner(&self) -> DataOwner<'_> {
        DataOwner { cluster_id: &self.cluster_id, namespace: &self.namespace }
    }
}
