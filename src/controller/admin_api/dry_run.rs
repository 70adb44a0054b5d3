//! A pass in the world as it is, of a Tenant as it would be: what `kubectl tenant plan` shows. The same pass as ever,
//! but in a world in which nothing is done.

use super::manifest::Manifest;
use crate::controller::{
    context::Context,
    reconcile::{
        outcome::{Form, ReconcileOutcome},
        tenant::run_tenant_pass,
        undecodable::{locate, salvage_tenant},
    },
};
use crate::{
    api::{Tenant, TenantSpec},
    domain::{
        ident::{ObjectId, Uid},
        resolve::resolve_tenant,
    },
    effects::{
        error::EffectError,
        kubernetes::{cache::Key, objects::Watched},
    },
    plan::dry_run::{DryRun, Event},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

/// What is to be rehearsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Applying this Tenant.
    Apply(Box<Manifest>),
    /// The Tenant as it is.
    Present(Key),
    /// Deleting it.
    Delete(Key),
}

impl Asked {
    /// Which Tenant.
    pub fn key(&self) -> &Key {
        match self {
            Self::Apply(manifest) => &manifest.key,
            Self::Present(key) | Self::Delete(key) => key,
        }
    }
}

/// Why there is no rehearsal.
#[derive(Debug)]
pub enum DryRunError {
    /// No such Tenant.
    Missing,
    /// The API server would not take it, or nobody here looks after it; the sentence begins with the field.
    Invalid(String),
    /// Something could not be read.
    Unread(EffectError),
}

/// UID of a Tenant that is not there yet.
const NEW_UID: &str = "<uid>";

/// Runs the pass. The answer as JSON: a [`DryRun`] without secrets.
///
/// # Errors
/// When there is nothing to run it with.
pub async fn dry_run(context: &Context, asked: Asked) -> Result<String, DryRunError> {
    let watched = &context.watched;
    if !watched.is_empty() && !watched.contains(&asked.key().namespace) {
        let rule = "must be one that the operator looks after (its setting watchNamespaces)";
        return Err(DryRunError::Invalid(format!("metadata.namespace: {rule}")));
    }
    let now = context.clock.now();
    let live = context.world.tenants.cache.get(asked.key());
    let found = match live {
        None => None,
        Some(watched) => read(context, asked.key(), &watched).await?,
    };
    let (tenant, wrong, event) = resolve_subject(asked, found, now)?;
    let form = wrong.as_deref().map_or(Form::Whole, Form::Unreadable);
    let installation = context.installation_now();
    let world = context.world.for_dry_run();
    let outcome = run_tenant_pass(&world, &tenant, form, &installation, || context.clock.now()).await;
    let told = world.into_told();
    let shown = told.status.clone().or(tenant.status.clone()).unwrap_or_default();
    let dry_run = DryRun {
        namespace: tenant.namespace().unwrap_or_default(),
        name: tenant.name_any(),
        event,
        then: resolve_then(&outcome, event),
        error: outcome.error.as_ref().map(EffectError::chain),
        conditions: shown.conditions,
        steps: told.steps.clone(),
    };
    let text = serde_json::to_string(&dry_run);
    text.map(|text| told.mask(text)).map_err(|error| DryRunError::Invalid(format!("the plan can't be told: {error}")))
}

/// A Tenant that is there, and what is wrong with it if it does not decode.
type Found = (Tenant, Option<String>);

async fn read(context: &Context, key: &Key, watched: &Watched<Tenant>) -> Result<Option<Found>, DryRunError> {
    match &watched.object {
        Ok(tenant) => Ok(Some((tenant.clone(), None))),
        Err(broken) => {
            let raw = context.world.tenants.observe_raw(key).await.map_err(DryRunError::Unread)?;
            Ok(raw.map(|raw| (salvage_tenant(broken, &raw), Some(locate::<TenantSpec>(broken, &raw)))))
        }
    }
}

/// The Tenant as the pass would meet it.
fn resolve_subject(
    asked: Asked,
    found: Option<Found>,
    now: Timestamp,
) -> Result<(Tenant, Option<String>, Event), DryRunError> {
    match (asked, found) {
        (Asked::Apply(manifest), None) => {
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
            check(&tenant).map(|()| (tenant, None, Event::Created))
        }
        (Asked::Apply(manifest), Some((live, wrong))) => {
            let (before, after) = (&live.spec, &manifest.spec);
            let identity = [
                ("spec.tenantId", before.tenant_id != after.tenant_id),
                ("spec.database.instance", before.database.instance != after.database.instance),
            ];
            if let (None, Some((field, _))) = (&wrong, identity.iter().find(|(_, changed)| *changed)) {
                let rule = "must not be changed, added or removed after creation";
                return Err(DryRunError::Invalid(format!("{field}: {rule}")));
            }
            let mut tenant = live.clone();
            if wrong.is_some() || live.spec != manifest.spec {
                tenant.metadata.generation = live.metadata.generation.map(|generation| generation + 1);
            }
            tenant.annotations_mut().extend(manifest.annotations);
            tenant.spec = manifest.spec;
            check(&tenant).map(|()| (tenant, None, Event::Updated))
        }
        (Asked::Present(_), Some((live, wrong))) => Ok((live, wrong, Event::None)),
        (Asked::Delete(_), Some((mut live, wrong))) => {
            live.metadata.deletion_timestamp.get_or_insert(Time(now));
            Ok((live, wrong, Event::Deleted))
        }
        (Asked::Present(_) | Asked::Delete(_), None) => Err(DryRunError::Missing),
    }
}

/// What the CRD's rules would refuse, is refused here too.
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

/// What comes after the steps.
fn resolve_then(outcome: &ReconcileOutcome, event: Event) -> Option<String> {
    let staged =
        if event == Event::Deleted { "; a deletion goes in stages, and these are the steps of the first" } else { "" };
    let then = match (&outcome.awaits, outcome.wake_at) {
        (Some(_), _) => "waits until the replicas of the agent API have acknowledged the registry entry".to_owned(),
        (None, Some(time)) => format!("looks again at {time}, or when something changes"),
        (None, None) if outcome.error_class.is_some() => "waits: see the conditions".to_owned(),
        (None, None) => return None,
    };
    Some(then + staged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::admin_api::manifest::resolve_posted;
    use serde_json::{Value, json};

    fn manifest(spec: Value) -> Asked {
        let object = json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": "Tenant",
            "metadata": { "namespace": "shop", "name": "acme", "annotations": { "b": "new" } }, "spec": spec,
        });
        Asked::Apply(Box::new(resolve_posted(object.to_string().as_bytes()).unwrap()))
    }

    fn spec() -> Value {
        json!({ "agents": [{ "name": "main", "configRef": { "name": "support" } }] })
    }

    fn live() -> Found {
        let mut tenant = resolve_subject(manifest(spec()), None, Timestamp::UNIX_EPOCH).unwrap().0;
        tenant.metadata.uid = Some("u-1".into());
        tenant.metadata.generation = Some(4);
        tenant.metadata.annotations = Some([("a".into(), "old".into()), ("b".into(), "old".into())].into());
        (tenant, None)
    }

    fn resolve(asked: Asked, found: Option<Found>) -> Result<(Tenant, Option<String>, Event), DryRunError> {
        resolve_subject(asked, found, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_update_keeps_the_life_of_the_object_and_takes_the_new_spec() {
        let (same, _, event) = resolve(manifest(spec()), Some(live())).unwrap();
        assert_eq!((same.metadata.generation, event), (Some(4), Event::Updated));
        let mut changed = spec();
        changed["suspend"] = json!(true);
        let (tenant, _, _) = resolve(manifest(changed), Some(live())).unwrap();
        assert_eq!(tenant.metadata.generation, Some(5));
        assert_eq!(tenant.metadata.uid.as_deref(), Some("u-1"));
        assert!(tenant.spec.suspend);
        let annotations: Vec<_> = tenant.annotations().values().map(String::as_str).collect();
        assert_eq!(annotations, ["old", "new"]);
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused() {
        let refused = |asked, found| match resolve(asked, found) {
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
    fn what_is_not_there_can_only_be_created() {
        let key = || Key::new("shop", "acme");
        assert!(matches!(resolve(Asked::Present(key()), None), Err(DryRunError::Missing)));
        assert!(matches!(resolve(Asked::Delete(key()), None), Err(DryRunError::Missing)));
        let (deleted, _, event) = resolve(Asked::Delete(key()), Some(live())).unwrap();
        assert!(deleted.metadata.deletion_timestamp.is_some() && event == Event::Deleted);
    }
}
