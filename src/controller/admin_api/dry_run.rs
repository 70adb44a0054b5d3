//! Dry run of a reconcile, which `kubectl tenant plan` shows. The Tenant gets the assumed change, the real world is observed,
//! and the same planner is used; each step is rendered instead of performed, and counts as successful.

use super::manifest::Manifest;
use crate::controller::{
    context::OperatorContext,
    reconcile::{
        outcome::ReconcileOutcome,
        reconciled::{Form, Reconciled, observe_and_plan, plan_paused},
        undecodable::{locate, salvage_tenant},
    },
};
use crate::{
    api::{Tenant, TenantSpec, TenantStatus},
    domain::{
        admin_api::{DryRun, DryRunStep, Event},
        ident::{ObjectId, Uid, Version},
        resolve::resolve_tenant,
    },
    effects::{
        error::EffectError,
        kubernetes::{cache::Key, objects::Watched},
        world::{TenantScope, dry_run::Masks, live::LiveWorld},
    },
    plan::step::{Done, EntryStep, Execution, ObjectStep, TenantStep},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

/// What a plan is requested for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PlanTarget {
    /// Applying this manifest.
    Apply(Box<Manifest>),
    /// The existing Tenant without a change.
    Present(Key),
    /// Deleting the existing Tenant.
    Delete(Key),
}

impl PlanTarget {
    /// Namespace and name of the Tenant.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Apply(manifest) => &manifest.key,
            Self::Present(key) | Self::Delete(key) => key,
        }
    }
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum DryRunError {
    /// The Tenant does not exist.
    Missing,
    /// The API server would refuse the manifest, or this operator does not manage its namespace. The sentence starts with the
    /// field.
    Invalid(String),
    /// The Tenant could not be read.
    Unread(EffectError),
}

/// Placeholder of the UID of a Tenant that does not exist yet.
const NEW_UID: &str = "<uid>";

/// Runs the dry run. Returns a [`DryRun`] without secrets, as JSON.
///
/// # Errors
/// When the Tenant or its manifest can't be used.
pub(crate) async fn dry_run(context: &OperatorContext, target: PlanTarget) -> Result<String, DryRunError> {
    let watched = &context.watched;
    if !watched.is_empty() && !watched.contains(&target.key().namespace) {
        let rule = "must be a namespace that the operator watches (setting watchNamespaces)";
        return Err(DryRunError::Invalid(format!("metadata.namespace: {rule}")));
    }
    let now = context.clock.now();
    let live = context.world.tenants.cache.get(target.key());
    let found = match live {
        None => None,
        Some(watched) => read(context, target.key(), &watched).await?,
    };
    let Subject { tenant, undecodable, event } = resolve_subject(target, found, now)?;
    let form = undecodable.as_deref().map_or(Form::Whole, Form::Unreadable);
    let installation = context.installation_now();
    let world = &context.world;
    let scope = TenantScope { reserve: false, ..tenant.resolve_scope(form) };
    let mut shown = Shown::default();
    let (outcome, masks) = if let Some(steps) = plan_paused(&tenant, now) {
        let (execution, error) = shown.render(world, &scope, &steps);
        let mut outcome = ReconcileOutcome::default();
        outcome.add_report(execution.done.len(), error);
        (outcome, Masks::new(None, &steps))
    } else {
        let planned = observe_and_plan(world, &tenant, form, scope, &installation, || context.clock.now()).await;
        let (execution, error) = shown.render(world, &planned.scope, &planned.plan.steps);
        let mut outcome = planned.resolve_outcome(&tenant, &execution, error);
        let report = planned.plan_report(&tenant, &execution, &outcome, context.clock.now());
        let (reported, error) = shown.render(world, &planned.scope, &report);
        outcome.add_report(reported.done.len(), error);
        (outcome, Masks::new(planned.observed.as_ref(), &planned.plan.steps))
    };
    let status = shown.status.or(tenant.status.clone()).unwrap_or_default();
    let dry_run = DryRun {
        namespace: tenant.namespace().unwrap_or_default(),
        name: tenant.name_any(),
        event,
        then: resolve_then(&outcome, event),
        error: outcome.error.as_ref().map(EffectError::chain),
        conditions: status.conditions,
        steps: shown.steps,
    };
    let text = serde_json::to_string(&dry_run);
    text.map(|text| masks.apply(text))
        .map_err(|error| DryRunError::Invalid(format!("the plan can't be serialized: {error}")))
}

/// The steps rendered so far.
#[derive(Default)]
struct Shown {
    steps: Vec<DryRunStep>,
    /// The status that would be written.
    status: Option<TenantStatus>,
}

impl Shown {
    /// Renders steps up to the first that can't be rendered. Each rendered step counts as successful.
    fn render(
        &mut self,
        world: &LiveWorld,
        scope: &TenantScope,
        steps: &[TenantStep],
    ) -> (Execution<TenantStep>, Option<EffectError>) {
        let mut execution = Execution::default();
        for step in steps {
            match world.render_step(scope, step) {
                Ok(rendered) => self.steps.push(rendered),
                Err(error) => {
                    execution.failed = Some((step.clone(), error.failure()));
                    return (execution, Some(error));
                }
            }
            if let TenantStep::Object(ObjectStep::WriteStatus(status)) = step {
                self.status = Some(status.as_ref().clone());
            }
            // The version of the entry is unknown, but it would be awaited.
            let written = matches!(step, TenantStep::Entry(EntryStep::Put { .. }));
            execution.done.push((step.clone(), if written { Done::At(Version::default()) } else { Done::Plain }));
        }
        (execution, None)
    }
}

/// An existing Tenant.
#[derive(Debug)]
struct ExistingTenant {
    tenant: Tenant,
    /// The error, if it does not decode.
    undecodable: Option<String>,
}

/// The Tenant after the assumed change.
#[derive(Debug)]
struct Subject {
    tenant: Tenant,
    /// The error, if it does not decode.
    undecodable: Option<String>,
    event: Event,
}

async fn read(
    context: &OperatorContext,
    key: &Key,
    watched: &Watched<Tenant>,
) -> Result<Option<ExistingTenant>, DryRunError> {
    match &watched.object {
        Ok(tenant) => Ok(Some(ExistingTenant { tenant: tenant.clone(), undecodable: None })),
        Err(broken) => {
            let raw = context.world.tenants.observe_raw(key).await.map_err(DryRunError::Unread)?;
            Ok(raw.map(|raw| ExistingTenant {
                tenant: salvage_tenant(broken, &raw),
                undecodable: Some(locate::<TenantSpec>(broken, &raw)),
            }))
        }
    }
}

/// Assumes the change.
fn resolve_subject(target: PlanTarget, found: Option<ExistingTenant>, now: Timestamp) -> Result<Subject, DryRunError> {
    match (target, found) {
        (PlanTarget::Apply(manifest), None) => {
            let metadata = ObjectMeta {
                namespace: Some(manifest.key.namespace.clone()),
                name: Some(manifest.key.name.clone()),
                uid: Some(NEW_UID.to_owned()),
                generation: Some(1),
                creation_timestamp: Some(Time(now)),
                annotations: Some(manifest.annotations.clone()),
                ..ObjectMeta::default()
            };
            let tenant = Tenant { metadata, spec: manifest.spec, status: None };
            check(&tenant).map(|()| Subject { tenant, undecodable: None, event: Event::Created })
        }
        (PlanTarget::Apply(manifest), Some(ExistingTenant { tenant: live, undecodable })) => {
            let (before, after) = (&live.spec, &manifest.spec);
            let identity = [
                ("spec.tenantId", before.tenant_id != after.tenant_id),
                ("spec.database.instance", before.database.instance != after.database.instance),
            ];
            if let (None, Some((field, _))) = (&undecodable, identity.iter().find(|(_, changed)| *changed)) {
                let rule = "must not be changed, added or removed after creation";
                return Err(DryRunError::Invalid(format!("{field}: {rule}")));
            }
            let mut tenant = live.clone();
            if undecodable.is_some() || live.spec != manifest.spec {
                tenant.metadata.generation = live.metadata.generation.map(|generation| generation + 1);
            }
            tenant.annotations_mut().extend(manifest.annotations);
            tenant.spec = manifest.spec;
            check(&tenant).map(|()| Subject { tenant, undecodable: None, event: Event::Updated })
        }
        (PlanTarget::Present(_), Some(ExistingTenant { tenant, undecodable })) => {
            Ok(Subject { tenant, undecodable, event: Event::None })
        }
        (PlanTarget::Delete(_), Some(ExistingTenant { mut tenant, undecodable })) => {
            tenant.metadata.deletion_timestamp.get_or_insert(Time(now));
            Ok(Subject { tenant, undecodable, event: Event::Deleted })
        }
        (PlanTarget::Present(_) | PlanTarget::Delete(_), None) => Err(DryRunError::Missing),
    }
}

/// Checks the rules of the CRD.
fn check(tenant: &Tenant) -> Result<(), DryRunError> {
    let object = ObjectId {
        namespace: tenant.namespace().unwrap_or_default(),
        name: tenant.name_any(),
        uid: Uid(tenant.uid().unwrap_or_default()),
    };
    match resolve_tenant(object, 1, tenant.annotations(), &tenant.spec) {
        Ok(_) => Ok(()),
        Err(violations) => {
            let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
            Err(DryRunError::Invalid(all.join("; ")))
        }
    }
}

/// What the operator waits for after the steps.
fn resolve_then(outcome: &ReconcileOutcome, event: Event) -> Option<String> {
    let staged = if event == Event::Deleted {
        "; a deletion takes several reconciles, and these are the steps of the next one"
    } else {
        ""
    };
    let then = match (&outcome.awaits, outcome.wake_at) {
        (Some(_), _) => "waits until the replicas of the agent API have acknowledged the registry entry".to_owned(),
        (None, Some(time)) => format!("reconciles again at {time}, or when something changes"),
        (None, None) if outcome.error_class.is_some() => "waits; see the conditions".to_owned(),
        (None, None) => return None,
    };
    Some(then + staged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::admin_api::manifest::resolve_manifest;
    use serde_json::{Value, json};

    fn manifest(spec: Value) -> PlanTarget {
        let object = json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "namespace": "shop", "name": "acme", "annotations": { "b": "new" } }, "spec": spec,
        });
        PlanTarget::Apply(Box::new(resolve_manifest(object.to_string().as_bytes()).unwrap()))
    }

    fn spec() -> Value {
        json!({ "agents": [{ "name": "main", "configRef": { "name": "support" } }] })
    }

    fn live() -> ExistingTenant {
        let mut tenant = resolve_subject(manifest(spec()), None, Timestamp::UNIX_EPOCH).unwrap().tenant;
        tenant.metadata.uid = Some("u-1".into());
        tenant.metadata.generation = Some(4);
        tenant.metadata.annotations = Some([("a".into(), "old".into()), ("b".into(), "old".into())].into());
        ExistingTenant { tenant, undecodable: None }
    }

    fn resolve(target: PlanTarget, found: Option<ExistingTenant>) -> Result<Subject, DryRunError> {
        resolve_subject(target, found, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_update_keeps_the_metadata_and_takes_the_new_spec() {
        let Subject { tenant: same, event, .. } = resolve(manifest(spec()), Some(live())).unwrap();
        assert_eq!((same.metadata.generation, event), (Some(4), Event::Updated));
        let mut changed = spec();
        changed["suspend"] = json!(true);
        let tenant = resolve(manifest(changed), Some(live())).unwrap().tenant;
        assert_eq!(tenant.metadata.generation, Some(5));
        assert_eq!(tenant.metadata.uid.as_deref(), Some("u-1"));
        assert!(tenant.spec.suspend);
        let annotations: Vec<_> = tenant.annotations().values().map(String::as_str).collect();
        assert_eq!(annotations, ["old", "new"]);
    }

    #[test]
    fn violations_of_the_crd_are_refused() {
        let refused = |target, found| match resolve(target, found) {
            Err(DryRunError::Invalid(rule)) => rule,
            other => panic!("{other:?}"),
        };
        let mut renamed = spec();
        renamed["tenantId"] = json!("other");
        assert!(refused(manifest(renamed), Some(live())).starts_with("spec.tenantId"));
        let mut moved = spec();
        moved["database"] = json!({ "instance": "other" });
        assert!(refused(manifest(moved), Some(live())).starts_with("spec.database.instance"));
        let mut lost = spec();
        lost["defaultAgent"] = json!("nobody");
        assert_eq!(refused(manifest(lost), None), "spec.defaultAgent must name one of spec.agents");
    }

    #[test]
    fn a_missing_tenant_can_only_be_created() {
        let key = || Key::new("shop", "acme");
        assert!(matches!(resolve(PlanTarget::Present(key()), None), Err(DryRunError::Missing)));
        assert!(matches!(resolve(PlanTarget::Delete(key()), None), Err(DryRunError::Missing)));
        let Subject { tenant: deleted, event, .. } = resolve(PlanTarget::Delete(key()), Some(live())).unwrap();
        assert!(deleted.metadata.deletion_timestamp.is_some() && event == Event::Deleted);
    }
}
