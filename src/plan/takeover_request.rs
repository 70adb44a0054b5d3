//! Allowing one Tenant to take over the data of a lost cluster, or data that is kept of another namespace's Tenant, because
//! a person says so and not the settings: the checks of a request, what is recorded, and the answer. The reconcile decides
//! whether and when the data is taken over.

use super::{
    installation::Installation,
    observed::{LedgerFacts, LedgerRow, RowState, data_owner::DataOwner},
};
use crate::domain::{
    admin_api::TakeoverAnswer,
    ident::{Incarnation, ObjectId, TenantId, Uid},
};

/// Longest id of a cluster.
const MAX_CLUSTER_ID: usize = 253;

/// What is recorded: this owner's data may go to that Tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The tenant id.
    pub tenant_id: TenantId,
    /// Identity of the data.
    pub incarnation: Incarnation,
    /// UID of the Tenant that has or had it.
    pub previous: Uid,
    /// The cluster of that Tenant.
    pub from_cluster_id: String,
    /// The state that the data is in.
    pub data: GrantedData,
}

/// The state of data that may be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantedData {
    /// In use by a Tenant of another cluster.
    InUse,
    /// Kept of a deleted Tenant.
    Kept,
}

/// The Tenant for which a takeover is asked, and the caller.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// Its tenant id.
    pub tenant_id: &'a TenantId,
    /// The Tenant.
    pub object: &'a ObjectId,
    /// The earlier Tenant with the kept data that its spec asks for.
    pub previous: Option<&'a Uid>,
    /// The caller may allow takeovers in all namespaces. Only then is data of another namespace given away, or named.
    pub all_namespaces: bool,
}

/// Why a takeover is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeoverRefusal {
    /// The request can't be met.
    #[error("{0}")]
    Unmet(String),
    /// The data is not this namespace's, or there is none: the caller may not know which.
    #[error(
        "nothing of this namespace can be taken over; giving it data of another namespace requires the verb 'takeover' on \
         Tenants in all namespaces"
    )]
    OtherNamespace,
}

/// Whether the ledger holds what was asked for: what to answer, and what to record first, if anything. `from`: the cluster
/// that the data is taken from; `None`: this one.
///
/// # Errors
/// When there is nothing to allow, or the caller may not allow it.
pub fn judge_request(
    applicant: Applicant<'_>,
    from: Option<&str>,
    facts: &LedgerFacts,
    installation: &Installation,
) -> Result<(TakeoverAnswer, Option<Permission>), TakeoverRefusal> {
    let from = from.unwrap_or(&installation.cluster_id);
    if from.is_empty() || from.chars().count() > MAX_CLUSTER_ID {
        return Err(TakeoverRefusal::Unmet("from: must be the id of a cluster".to_owned()));
    }
    let request = Request { applicant, from, installation };
    let row = facts.row.as_ref();
    if let Some(row) = row.filter(|row| row.uid == applicant.object.uid && row.state != RowState::Dropped) {
        let answer = request.answer(row.incarnation);
        return Ok((TakeoverAnswer { done: true, ..answer }, None));
    }
    if let Some(kept) = request.find_kept(facts) {
        return request.judge_kept(&kept);
    }
    match row.filter(|row| row.state != RowState::Dropped) {
        None => Err(request.nothing(format!("the ledger gives tenant id '{}' to nobody", applicant.tenant_id))),
        Some(row) => request.judge_row(row, facts),
    }
}

#[derive(Clone, Copy)]
struct Request<'a> {
    applicant: Applicant<'a>,
    from: &'a str,
    installation: &'a Installation,
}

/// Data of a deleted Tenant.
struct Kept<'a> {
    owner: DataOwner<'a>,
    /// Name of that Tenant.
    name: &'a str,
    uid: &'a Uid,
    incarnation: Incarnation,
}

impl Request<'_> {
    fn answer(self, incarnation: Incarnation) -> TakeoverAnswer {
        TakeoverAnswer { tenant_id: self.applicant.tenant_id.to_string(), incarnation, done: false, wait_seconds: 0 }
    }

    fn permission(self, incarnation: Incarnation, previous: &Uid, data: GrantedData) -> Permission {
        Permission {
            tenant_id: self.applicant.tenant_id.clone(),
            incarnation,
            previous: previous.clone(),
            from_cluster_id: self.from.to_owned(),
            data,
        }
    }

    /// The answer where there is nothing: the same as where there is something that the caller may not know of.
    fn nothing(self, note: String) -> TakeoverRefusal {
        match self.applicant.all_namespaces {
            true => TakeoverRefusal::Unmet(note),
            false => TakeoverRefusal::OtherNamespace,
        }
    }

    /// Whether the caller may learn of an owner's data.
    fn may_know(self, owner: DataOwner<'_>, name: &str) -> bool {
        let object = self.applicant.object;
        self.applicant.all_namespaces
            || owner.is_namespace_of(object, self.installation)
            || (owner.cluster_id != self.installation.cluster_id
                && (owner.namespace, name) == (object.namespace.as_str(), object.name.as_str()))
    }

    /// The kept data that the Tenant's spec asks for.
    fn find_kept(self, facts: &LedgerFacts) -> Option<Kept<'_>> {
        let previous = self.applicant.previous?;
        let row = facts.row.as_ref().filter(|row| row.uid == *previous && row.state == RowState::Retained);
        let row =
            row.map(|row| Kept { owner: row.owner(), name: &row.name, uid: &row.uid, incarnation: row.incarnation });
        let archive = || {
            facts.archive_of(previous).map(|archive| Kept {
                owner: archive.owner(),
                name: &archive.name,
                uid: &archive.uid,
                incarnation: archive.incarnation,
            })
        };
        row.or_else(archive)
    }

    fn judge_kept(self, kept: &Kept<'_>) -> Result<(TakeoverAnswer, Option<Permission>), TakeoverRefusal> {
        let Kept { owner, name, uid, incarnation } = kept;
        if !self.may_know(*owner, name) {
            return Err(TakeoverRefusal::OtherNamespace);
        }
        if owner.is_namespace_of(self.applicant.object, self.installation) {
            let note = "the data is kept for this namespace: the Tenant takes it over without a grant".to_owned();
            return Err(TakeoverRefusal::Unmet(note));
        }
        if owner.cluster_id != self.from {
            let (namespace, cluster_id) = (owner.namespace, owner.cluster_id);
            let note = format!(
                "the data is kept of Tenant {namespace}/{name} of cluster {cluster_id}, not of cluster {}",
                self.from
            );
            return Err(TakeoverRefusal::Unmet(note));
        }
        Ok((self.answer(*incarnation), Some(self.permission(*incarnation, uid, GrantedData::Kept))))
    }

    fn judge_row(
        self,
        row: &LedgerRow,
        facts: &LedgerFacts,
    ) -> Result<(TakeoverAnswer, Option<Permission>), TakeoverRefusal> {
        let Applicant { tenant_id, object, .. } = self.applicant;
        if !self.may_know(row.owner(), &row.name) {
            return Err(TakeoverRefusal::OtherNamespace);
        }
        let unmet = |note: String| Err(TakeoverRefusal::Unmet(note));
        match row.state {
            RowState::Active | RowState::Suspended | RowState::Deleting => {}
            RowState::Retained | RowState::Dropped => {
                return unmet(format!(
                    "the database keeps the data of the deleted Tenant of tenant id '{tenant_id}': to take it over, set \
                     spec.database.adopt.previousUid to {}",
                    row.uid
                ));
            }
        }
        if row.cluster_id != self.from {
            return unmet(format!("{}, not of cluster {}", describe_owner(row), self.from));
        }
        if row.cluster_id == self.installation.cluster_id {
            return unmet(format!("{}, which is this cluster: data in use is not given away", describe_owner(row)));
        }
        if (&row.namespace, &row.name) != (&object.namespace, &object.name) {
            return unmet(format!(
                "{}: only a Tenant of the same namespace and name takes it over",
                describe_owner(row)
            ));
        }
        let silent = facts.heartbeat_age_seconds.unwrap_or_default();
        let wait_seconds = self.installation.predecessors.heartbeat_timeout_seconds.saturating_sub(silent);
        let answer = TakeoverAnswer { wait_seconds, ..self.answer(row.incarnation) };
        Ok((answer, Some(self.permission(row.incarnation, &row.uid, GrantedData::InUse))))
    }
}

/// Describes the owner of a row, of any cluster.
pub(super) fn describe_owner(row: &LedgerRow) -> String {
    let LedgerRow { namespace, name, cluster_id, .. } = row;
    format!("the ledger gives this tenant id to Tenant {namespace}/{name} of cluster {cluster_id}")
}
