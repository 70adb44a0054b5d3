//! One pass of a Tenant: resolve, observe, plan, perform, project, report.

use super::outcome::{Form, ReconcileOutcome, perform_steps, plan_rest, resolve_outcome, rest, tell_vanished};
use crate::{
    api::{Tenant, TenantServedStatus, TenantStatus, bounds::REQUEST, names},
    domain::{
        ident::{AgentName, DatabaseId, Incarnation, ObjectId, TenantId, Uid, Version},
        resolve::{Claimant, DesiredTenant, resolve_paused, resolve_revoked, resolve_tenant, resolve_tenant_id},
    },
    effects::{
        error::EffectError,
        world::{RevocationScope, TenantScope, World},
    },
    plan::{
        Plan,
        installation::Installation,
        observed::{ObservedTenant, Recorded, ServedProof},
        report::PartReport,
        step::{Execution, ObjectStep, TenantStep},
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
use std::collections::BTreeMap;

/// What the user wants of a Tenant.
enum Intent {
    Present(Box<DesiredTenant>),
    Absent(Departing),
    Rejected(Vec<PartReport>),
}

/// What a pass saw, and what it is to do.
pub struct Planned {
    /// The Tenant, with the instance that was looked at.
    pub scope: TenantScope,
    /// The installation, as seen from that instance.
    pub installation: Installation,
    /// What was seen, if it was looked at.
    pub observed: Option<ObservedTenant>,
    /// The plan.
    pub plan: Plan<TenantStep>,
}

/// Runs one pass. `form` says what `tenant` is.
pub async fn run_tenant_pass<W: World<TenantScope> + World<RevocationScope>>(
    world: &W,
    tenant: &Tenant,
    form: Form<'_>,
    installation: &Installation,
    now: impl Fn() -> Timestamp,
) -> ReconcileOutcome {
    let vanished = matches!(form, Form::Vanished);
    let scope = TenantScope { vanished, ..resolve_scope(tenant) };
    if let Some(outcome) = revoke_first(world, &scope, installation, now()).await {
        return outcome;
    }
    if let Some(steps) = plan_paused(tenant, now()) {
        return rest(world, &scope, &steps).await;
    }
    let planned = observe_and_plan(world, tenant, form, scope, installation, &now).await;
    let (execution, error) = perform_steps(world, &planned.scope, &planned.plan.steps).await;
    let mut outcome = planned.resolve_outcome(tenant, &execution, error);
    if vanished {
        tell_vanished(&planned.scope.object, &planned.plan);
    }
    // A failure here is the pass's failure, unless an earlier step had one.
    let report = planned.plan_report(tenant, &execution, &outcome, now());
    let (reported, error) = perform_steps(world, &planned.scope, &report).await;
    outcome.add_report(reported.done.len(), error);
    outcome
}

/// Revokes keys before anything else of the Tenant is read, whatever is wrong with it and though it is paused. `None` if no
/// revocation is due; else the rest is left to the next reconcile, which follows at once.
async fn revoke_first<W: World<RevocationScope>>(
    world: &W,
    scope: &TenantScope,
    installation: &Installation,
    now: Timestamp,
) -> Option<ReconcileOutcome> {
    if scope.revoke.is_empty() {
        return None;
    }
    let scope = RevocationScope(scope.clone());
    let entry = world.observe(&scope).await;
    let step = plan_revocation(&scope.0.revoke, &entry, installation.epoch, now)?;
    let (execution, error) = perform_steps(world, &scope, &[step]).await;
    if error.is_none() {
        tracing::warn!(object = %scope.0.object, "keys were revoked in the registry entry");
    }
    let mut outcome = ReconcileOutcome { wake_at: Some(now), ..ReconcileOutcome::default() };
    outcome.add_report(execution.done.len(), error);
    Some(outcome)
}

/// What is done about a Tenant that is paused; `None` if it is not.
pub fn plan_paused(tenant: &Tenant, now: Timestamp) -> Option<Vec<TenantStep>> {
    if resolve_paused(tenant.annotations()) != Ok(true) {
        return None;
    }
    let previous = tenant.status.clone().unwrap_or_default();
    let told = previous.conditions.clone();
    let with_conditions = |conditions| TenantStatus { conditions, ..previous };
    Some(plan_rest::<TenantScope>(&tenant.metadata, &told, with_conditions, now))
}

/// Looks at the world of a Tenant, and plans what to do.
pub async fn observe_and_plan<W: World<TenantScope>>(
    world: &W,
    tenant: &Tenant,
    form: Form<'_>,
    mut scope: TenantScope,
    installation: &Installation,
    now: impl Fn() -> Timestamp,
) -> Planned {
    let deleting = tenant.metadata.deletion_timestamp.is_some();
    let intent = resolve_intent(tenant, form, &scope, deleting);
    let observed = match &intent {
        Intent::Rejected(_) if !was_provisioned(&scope.recorded) => None,
        Intent::Rejected(_) | Intent::Present(_) | Intent::Absent(_) => Some(world.observe(&scope).await),
    };
    scope.instance = observed.as_ref().and_then(|seen| seen.instance.clone());
    let installation = installation.clone().at(scope.instance.as_deref());
    let plan = match (intent, &observed) {
        (Intent::Present(desired), Some(observed)) => plan_tenant(&desired, observed, &installation, now()),
        (Intent::Absent(departing), Some(observed)) => plan_deletion(&departing, observed, &installation, now()),
        (Intent::Rejected(reports), observed) => {
            plan_rejected(&scope.object, reports, observed.as_ref(), &installation)
        }
        (Intent::Present(_) | Intent::Absent(_), None) => Plan::nothing(Vec::new()),
    };
    Planned { scope, installation, observed, plan }
}

impl Planned {
    /// The outcome of the plan that got this far, before status and events are written.
    pub fn resolve_outcome(
        &self,
        tenant: &Tenant,
        execution: &Execution<TenantStep>,
        error: Option<EffectError>,
    ) -> ReconcileOutcome {
        let mut outcome = resolve_outcome(&self.plan, execution, error);
        outcome.database = self.observed.as_ref().map(|seen| seen.instance.clone());
        let released = TenantStep::Object(ObjectStep::RemoveFinalizer);
        outcome.gone = execution.done.iter().any(|(step, _)| *step == released)
            || (is_released(tenant) && outcome.is_over(&self.plan));
        outcome
    }

    /// The steps that write status and events of the pass.
    pub fn plan_report(
        &self,
        tenant: &Tenant,
        execution: &Execution<TenantStep>,
        outcome: &ReconcileOutcome,
        now: Timestamp,
    ) -> Vec<TenantStep> {
        let none = TenantStatus::default();
        let previous = tenant.status.as_ref().unwrap_or(&none);
        let facts = TenantFacts {
            generation: tenant.metadata.generation.unwrap_or_default(),
            tenant_id: self.scope.tenant_id.as_ref(),
            key_secret: &self.scope.key_secret,
            observed: self.observed.as_ref(),
            installation: &self.installation,
            plan: &self.plan,
            execution,
            deleting: tenant.metadata.deletion_timestamp.is_some(),
        };
        let (status, mut notices) = project_tenant(&facts, previous, now);
        let mut steps = Vec::new();
        if outcome.gone || is_released(tenant) {
            // What the status would say again and again, with nothing to compare with, is not told.
            notices = project_deeds(execution);
        } else if status != *previous {
            steps.push(ObjectStep::WriteStatus(Box::new(status)).into());
        }
        steps.extend(notices.into_iter().map(|notice| ObjectStep::RecordEvent(notice).into()));
        steps
    }
}

/// Whether the object is to go and our finalizer is not on it: nobody reads its status any more, and it may be gone.
fn is_released(tenant: &Tenant) -> bool {
    tenant.metadata.deletion_timestamp.is_some() && !tenant.finalizers().iter().any(|f| f == names::TENANT_FINALIZER)
}

fn resolve_intent(tenant: &Tenant, form: Form<'_>, scope: &TenantScope, deleting: bool) -> Intent {
    if deleting {
        return Intent::Absent(Departing {
            object: scope.object.clone(),
            tenant_id: scope.tenant_id.clone(),
            policy: tenant.spec.database.deletion_policy,
        });
    }
    if let Form::Unreadable(error) = form {
        return Intent::Rejected(project_unreadable(error));
    }
    let generation = tenant.metadata.generation.unwrap_or_default();
    if let Err(violation) = resolve_paused(tenant.annotations()) {
        return Intent::Rejected(project_rejection(&[violation]));
    }
    match resolve_tenant(scope.object.clone(), generation, tenant.annotations(), &tenant.spec) {
        Ok(desired) => Intent::Present(Box::new(desired)),
        Err(violations) => Intent::Rejected(project_rejection(&violations)),
    }
}

/// What the world needs to know of a Tenant.
pub fn resolve_scope(tenant: &Tenant) -> TenantScope {
    let object = ObjectId {
        namespace: tenant.namespace().unwrap_or_default(),
        name: tenant.name_any(),
        uid: Uid(tenant.uid().unwrap_or_default()),
    };
    let agents: BTreeMap<AgentName, String> = tenant
        .spec
        .agents
        .iter()
        .filter_map(|a| AgentName::parse(&a.name).ok().map(|name| (name, a.config_ref.name.clone())))
        .collect();
    TenantScope {
        claim: resolve_claimant(tenant),
        tenant_id: tenant_id(tenant),
        agents,
        finalizers: tenant.finalizers().to_vec(),
        recorded: Recorded {
            accepted_loss: tenant.annotations().get(names::ACCEPT_LOSS_ANNOTATION).cloned(),
            retry_migration: resolve_retry(tenant),
            ..tenant.status.as_ref().map(resolve_recorded).unwrap_or_default()
        },
        key_secret: key_secret_name(&object.name),
        named: tenant.spec.database.instance.clone(),
        instance: None,
        adopt: tenant.spec.database.adopt.as_ref().map(|adopt| Uid(adopt.previous_uid.clone())),
        revoke: resolve_revoked(tenant.annotations()),
        algorithm: tenant.spec.auth.algorithm,
        suspend: tenant.spec.suspend,
        vanished: false,
        reserve: true,
        object,
    }
}

/// The request to try a migration again. An endless one is cut: it is kept in the ledger.
fn resolve_retry(tenant: &Tenant) -> Option<String> {
    let asked = tenant.annotations().get(names::RETRY_MIGRATION_ANNOTATION)?;
    Some(asked.chars().take(REQUEST.max).collect())
}

/// The claim a Tenant makes to its tenant id.
pub fn resolve_claimant(tenant: &Tenant) -> Claimant {
    Claimant {
        object: ObjectId {
            namespace: tenant.namespace().unwrap_or_default(),
            name: tenant.name_any(),
            uid: Uid(tenant.uid().unwrap_or_default()),
        },
        created: tenant.metadata.creation_timestamp.as_ref().map(|t| t.0),
        deleting: tenant.metadata.deletion_timestamp.is_some(),
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
