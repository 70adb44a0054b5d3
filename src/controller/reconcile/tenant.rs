//! The reconcile of a Tenant.

use super::{
    reconciled::{Form, Planned, Reconciled},
    undecodable::salvage_tenant,
};
use crate::{
    api::{Condition, Notice, Tenant, TenantServedStatus, TenantSpec, TenantStatus, bounds::REQUEST, names},
    domain::{
        ident::{AgentName, DatabaseId, Incarnation, TenantId, Uid, Version},
        resolve::{Claimant, DesiredTenant, resolve_paused, resolve_revoked, resolve_tenant, resolve_tenant_id},
    },
    effects::{
        kubernetes::objects::{Broken, Objects},
        world::{TenantScope, live::LiveWorld},
    },
    plan::{
        Plan,
        installation::Installation,
        observed::{EntryView, ObservedTenant, Recorded, Seen, ServedProof},
        report::PartReport,
        step::{Execution, TenantStep},
        tenant::{
            delete::{Departing, plan_deletion},
            present::plan_tenant,
            revocation::plan_revocation,
            upkeep::{plan_rejected, was_provisioned},
        },
    },
    status::{TenantFacts, project_deeds, project_rejection, project_tenant, project_unreadable},
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the user wants of a Tenant.
pub enum TenantIntent {
    /// It is to be served, or suspended.
    Present(Box<DesiredTenant>),
    /// It is being deleted.
    Absent(Departing),
    /// Its spec is invalid.
    Rejected(Vec<PartReport>),
}

impl Reconciled for Tenant {
    type Spec = TenantSpec;
    type WorldScope = TenantScope;
    type Intent = TenantIntent;

    fn objects(world: &LiveWorld) -> &Objects<Self> {
        &world.tenants
    }

    fn salvage(broken: &Broken, raw: &Value) -> Self {
        salvage_tenant(broken, raw)
    }

    fn resolve_scope(&self, form: Form<'_>) -> TenantScope {
        let agents: BTreeMap<AgentName, String> = self
            .spec
            .agents
            .iter()
            .filter_map(|a| AgentName::parse(&a.name).ok().map(|name| (name, a.config_ref.name.clone())))
            .collect();
        TenantScope {
            object: self.id(),
            claim: resolve_claimant(self),
            tenant_id: tenant_id(self),
            agents,
            finalizers: self.finalizers().to_vec(),
            recorded: Recorded {
                accepted_loss: self.annotations().get(names::ACCEPT_LOSS_ANNOTATION).cloned(),
                retry_migration: resolve_retry(self),
                ..self.status.as_ref().map(resolve_recorded).unwrap_or_default()
            },
            key_secret: key_secret_name(&self.name_any()),
            named: self.spec.database.instance.clone(),
            instance: None,
            adopt: self.spec.database.adopt.as_ref().map(|adopt| Uid(adopt.previous_uid.clone())),
            revoke: resolve_revoked(self.annotations()),
            algorithm: self.spec.auth.algorithm,
            suspend: self.spec.suspend,
            vanished: matches!(form, Form::Vanished),
            reserve: true,
        }
    }

    fn plan_first(
        entry: &Seen<EntryView>,
        scope: &TenantScope,
        installation: &Installation,
        now: Timestamp,
    ) -> Option<TenantStep> {
        plan_revocation(&scope.revoke, entry, installation.epoch, now)
    }

    fn status(&self) -> Option<&TenantStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &mut TenantStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }

    fn resolve_intent(&self, form: Form<'_>, scope: &TenantScope) -> TenantIntent {
        if self.is_deleted() {
            return TenantIntent::Absent(Departing {
                object: scope.object.clone(),
                tenant_id: scope.tenant_id.clone(),
                policy: self.spec.database.deletion_policy,
            });
        }
        if let Form::Unreadable(error) = form {
            return TenantIntent::Rejected(project_unreadable(error));
        }
        let resolved = resolve_tenant(scope.object.clone(), self.generation(), self.annotations(), &self.spec);
        match resolve_paused(self.annotations()).map_err(|violation| vec![violation]).and(resolved) {
            Ok(desired) => TenantIntent::Present(Box::new(desired)),
            Err(violations) => TenantIntent::Rejected(project_rejection(&violations)),
        }
    }

    fn needs_observation(intent: &TenantIntent, scope: &TenantScope) -> bool {
        match intent {
            TenantIntent::Present(_) | TenantIntent::Absent(_) => true,
            TenantIntent::Rejected(_) => was_provisioned(&scope.recorded),
        }
    }

    fn set_instance(scope: &mut TenantScope, observed: &ObservedTenant) -> Option<Option<String>> {
        scope.instance = observed.instance.clone();
        Some(observed.instance.clone())
    }

    fn plan(
        intent: TenantIntent,
        observed: Option<&ObservedTenant>,
        scope: &TenantScope,
        installation: &Installation,
        now: Timestamp,
    ) -> Plan<TenantStep> {
        match (intent, observed) {
            (TenantIntent::Present(desired), Some(observed)) => plan_tenant(&desired, observed, installation, now),
            (TenantIntent::Absent(departing), Some(observed)) => plan_deletion(&departing, observed, installation, now),
            (TenantIntent::Rejected(reports), observed) => {
                plan_rejected(&scope.object, reports, observed, installation)
            }
            (TenantIntent::Present(_) | TenantIntent::Absent(_), None) => Plan::nothing(Vec::new()),
        }
    }

    fn project(
        &self,
        planned: &Planned<Self>,
        execution: &Execution<TenantStep>,
        now: Timestamp,
    ) -> (TenantStatus, Vec<Notice>) {
        let facts = TenantFacts {
            generation: self.generation(),
            tenant_id: planned.scope.tenant_id.as_ref(),
            key_secret: &planned.scope.key_secret,
            observed: planned.observed.as_ref(),
            installation: &planned.installation,
            plan: &planned.plan,
            execution,
            deleting: self.is_deleted(),
        };
        project_tenant(&facts, self.status.as_ref().unwrap_or(&TenantStatus::default()), now)
    }

    /// Without a status to compare with, the other events would be recorded again each time.
    fn project_last_events(execution: &Execution<TenantStep>) -> Vec<Notice> {
        project_deeds(execution)
    }
}

/// The request to retry a migration. A long one is cut, because it is stored in the ledger.
fn resolve_retry(tenant: &Tenant) -> Option<String> {
    let request = tenant.annotations().get(names::RETRY_MIGRATION_ANNOTATION)?;
    Some(request.chars().take(REQUEST.max).collect())
}

/// The claim of a Tenant to its tenant id.
pub fn resolve_claimant(tenant: &Tenant) -> Claimant {
    Claimant {
        object: tenant.id(),
        created: tenant.metadata.creation_timestamp.as_ref().map(|t| t.0),
        deleting: tenant.is_deleted(),
    }
}

/// The tenant id of a Tenant, if it has a valid one.
pub fn tenant_id(tenant: &Tenant) -> Option<TenantId> {
    resolve_tenant_id(tenant.spec.tenant_id.as_deref(), &tenant.name_any()).ok()
}

/// Name of the Secret with a Tenant's signing keys.
pub fn key_secret_name(tenant: &str) -> String {
    format!("{tenant}-signing-keys")
}

fn resolve_recorded(status: &TenantStatus) -> Recorded {
    let database = status.database.as_ref();
    Recorded {
        database_id: database.and_then(|d| d.database_id.parse().ok()).map(DatabaseId),
        instance: database.map(|d| d.instance.clone()),
        incarnation: database.and_then(|d| d.incarnation.parse().ok()).map(Incarnation),
        served: status.served.as_ref().and_then(resolve_proof),
        accepted_loss: None,
        retry_migration: None,
    }
}

fn resolve_proof(served: &TenantServedStatus) -> Option<ServedProof> {
    let version = Version::parse(&served.entry_version)?;
    Some(ServedProof { version, generation: served.generation })
}
