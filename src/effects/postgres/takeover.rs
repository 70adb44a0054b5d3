//! Recording that a Tenant may take over the data of another cluster or namespace.

use super::{
    Database, EpochFence, PgError,
    render::{Statements, literals},
};
use crate::{
    domain::ident::ObjectId,
    plan::takeover_request::{GrantedData, Permission},
};

impl Database {
    /// Records a takeover grant: which data a Tenant may take over, and who allowed it. Idempotent.
    ///
    /// # Errors
    /// `Transient` if the row has changed since it was read.
    pub async fn perform_allow_takeover(
        &self,
        permission: &Permission,
        grantee: &ObjectId,
        allowed_by: &str,
        fence: &EpochFence,
    ) -> Result<(), PgError> {
        let (wanted, grantee, fence, allowed_by) =
            (permission.clone(), grantee.clone(), fence.clone(), allowed_by.to_owned());
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            let row = literals([
                wanted.tenant_id.as_str(),
                &wanted.incarnation.to_string(),
                &wanted.previous.0,
                &wanted.from_cluster_id,
            ])?;
            let ObjectId { uid, namespace, name } = &grantee;
            let (function, grantee) = match wanted.data {
                GrantedData::InUse => {
                    ("allow_takeover", literals([uid.0.as_str(), namespace, name, &fence.cluster_id, &allowed_by])?)
                }
                GrantedData::Kept => ("allow_kept", literals([uid.0.as_str(), &fence.cluster_id, &allowed_by])?),
            };
            sql.add(&format!("SELECT agent_tenancy.{function}({row}, {grantee});"));
            Ok(())
        };
        self.change("allowing a takeover", write).await.map(drop)
    }
}
