//! Recording that a Tenant may take over the data of another cluster's Tenant.

use super::{
    Database, Fence, PgError,
    render::{Statements, literals},
};
use crate::{domain::ident::ObjectId, plan::permission::Permission};

impl Database {
    /// Records that a Tenant may take over what another cluster's has, who said so, and nothing else. Again is the same.
    ///
    /// # Errors
    /// `Transient` if the row is not any more as it was seen.
    pub async fn perform_allow_takeover(
        &self,
        permission: &Permission,
        heir: &ObjectId,
        allowed_by: &str,
        fence: &Fence,
    ) -> Result<(), PgError> {
        let (wanted, heir, fence, allowed_by) =
            (permission.clone(), heir.clone(), fence.clone(), allowed_by.to_owned());
        let write = move |sql: &mut Statements| {
            sql.fenced(&fence)?;
            let row = literals([
                wanted.tenant_id.as_str(),
                &wanted.incarnation.to_string(),
                &wanted.previous.0,
                &wanted.from_cluster_id,
            ])?;
            let heir = literals([heir.uid.0.as_str(), &heir.namespace, &heir.name, &fence.cluster_id, &allowed_by])?;
            sql.add(&format!("SELECT agent_tenancy.allow_takeover({row}, {heir});"));
            Ok(())
        };
        self.change("allowing a takeover", write).await.map(drop)
    }
}
