//! `rotate`: rotating and revoking a tenant's keys by an annotation, as a GitOps tool would set it, and waiting for the
//! result.

use crate::{
    api::{ConditionType, KeyStatusState, Reason, Tenant, TenantKeysStatus, names},
    clock::Clock,
    domain::{class::ErrorClass, keys::Kid},
    kubectl_tenant::{
        cluster::Cluster,
        duration::parse_duration,
        error::{PluginError, VerbFailure},
        observe::observe_existing,
        report::document::find,
        wait::{
            result::WaitResult,
            watch::{WatchTarget, watch},
        },
    },
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

/// Rotate the key that signs a Tenant's tokens, or revoke keys in an emergency (requires permission to patch the Tenant)
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// Name of the Tenant
    name: String,
    /// Emergency: tokens of these keys are refused at once. A new key signs when all replicas know it, after two seconds
    /// at the latest
    #[arg(long)]
    revoke: bool,
    /// With --revoke: the key to revoke (may be repeated); default: every key of the Tenant
    #[arg(long, value_name = "KID", requires = "revoke", value_parser = parse_kid)]
    kid: Vec<Kid>,
    /// Longest wait, e.g. 90, 90s, 5m or 1h30m; 0 does not wait
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

fn parse_kid(text: &str) -> Result<Kid, String> {
    Kid::parse(text).ok_or_else(|| "a key id has 1 to 64 characters of 'A-Z', 'a-z', '0-9', '_' and '-'".to_owned())
}

/// A patch of the Tenant's annotations, and what is reached when the operator has acted on it.
#[derive(Debug)]
struct KeyRequest {
    goal: KeyGoal,
    annotation: &'static str,
    value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyGoal {
    /// Another key than `before` signs.
    Rotated { before: Option<String> },
    /// None of these keys verifies tokens.
    Revoked(BTreeSet<String>),
}

/// Requests a rotation or a revocation and waits for it; with a timeout of 0 it does not wait.
///
/// # Errors
/// When the Tenant has no keys or can't be patched, or the time is over; the message says what is missing.
pub(crate) async fn run(cluster: &Cluster, args: &RotateArgs) -> Result<String, VerbFailure> {
    let timeout = args.timeout;
    let tenant = observe_existing(cluster, &args.name).await?;
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let keys =
        tenant.status.as_ref().and_then(|s| s.keys.clone()).ok_or_else(|| {
            PluginError::new(ErrorClass::Waiting, format!("Tenant {namespace}/{name} has no keys yet"))
        })?;
    let KeyRequest { goal, annotation, value } = resolve_request(args, &keys, Clock::system().now())?;
    let patch = json!({ "metadata": { "annotations": { annotation: value } } });
    let api = Api::<Tenant>::namespaced(cluster.client.clone(), &namespace);
    api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(|e| PluginError::of_kube(&e, &format!("annotate the Tenant {namespace}/{name}")))?;
    let object = format!("tenant.{}/{name}", names::GROUP);
    if timeout.is_zero() {
        return Ok(format!("{object} requested\n"));
    }
    let target = WatchTarget { namespace: &namespace, name: &name, timeout };
    match watch(cluster, &target, |tenant| resolve_progress(&goal, tenant)).await? {
        WaitResult::Reached(word) => {
            let keys = observe_existing(cluster, &name).await?.status.and_then(|s| s.keys);
            let signs = keys.as_ref().and_then(signing_kid).map(|kid| format!(": key '{kid}' signs"));
            Ok(format!("{object} {word}{}\n", signs.unwrap_or_default()))
        }
        WaitResult::Failed(why) => {
            Err(PluginError::new(ErrorClass::Invalid, format!("Tenant {namespace}/{name}: {why}")).into())
        }
        WaitResult::InProgress => {
            let why = observe_existing(cluster, &name).await.map(|t| explain(&t)).unwrap_or_default();
            let text = format!("Tenant {namespace}/{name}: not done after {}s{why}", timeout.as_secs());
            Err(PluginError::new(ErrorClass::Waiting, text).into())
        }
    }
}

fn resolve_request(args: &RotateArgs, keys: &TenantKeysStatus, now: Timestamp) -> Result<KeyRequest, PluginError> {
    if !args.revoke {
        return Ok(KeyRequest {
            goal: KeyGoal::Rotated { before: keys.current_kid.clone() },
            annotation: names::ROTATE_ANNOTATION,
            value: format!("kubectl-{}", now.as_millisecond()),
        });
    }
    let existing: BTreeSet<String> = keys.ring.iter().map(|k| k.kid.clone()).collect();
    let requested: BTreeSet<String> = args.kid.iter().map(ToString::to_string).collect();
    if let Some(unknown) = requested.difference(&existing).next() {
        let text = format!("the Tenant has no key '{unknown}'; it has {}", join(&existing));
        return Err(PluginError::new(ErrorClass::Invalid, text));
    }
    let kids = if requested.is_empty() { existing } else { requested };
    let value = kids.iter().cloned().collect::<Vec<_>>().join(",");
    Ok(KeyRequest { goal: KeyGoal::Revoked(kids), annotation: names::REVOKE_ANNOTATION, value })
}

fn join(kids: &BTreeSet<String>) -> String {
    kids.iter().map(|kid| format!("'{kid}'")).collect::<Vec<_>>().join(", ")
}

/// The key that signs, unless it is revoked and not replaced yet.
fn signing_kid(keys: &TenantKeysStatus) -> Option<&str> {
    let current = keys.current_kid.as_deref()?;
    let revoked = keys.ring.iter().any(|key| key.kid == current && key.state == KeyStatusState::Revoked);
    (!revoked).then_some(current)
}

fn resolve_progress(goal: &KeyGoal, tenant: Option<&Tenant>) -> WaitResult {
    let Some(tenant) = tenant else { return WaitResult::Failed("it was deleted".to_owned()) };
    let Some(status) = &tenant.status else { return WaitResult::InProgress };
    let Some(keys) = &status.keys else { return WaitResult::InProgress };
    let unaccepted = find(&status.conditions, ConditionType::Accepted).filter(|c| c.status == "False");
    if let (KeyGoal::Revoked(kids), Some(_)) = (goal, unaccepted) {
        let verifies = |k: &crate::api::TenantKeyStatus| kids.contains(&k.kid) && k.state != KeyStatusState::Revoked;
        if !keys.ring.iter().any(verifies) {
            return WaitResult::Reached("revoked; another key signs once the Tenant is accepted");
        }
        return WaitResult::InProgress;
    }
    if let Some(invalid) = unaccepted.filter(|c| c.reason == Reason::InvalidSpec.as_str()) {
        return WaitResult::Failed(invalid.message.clone());
    }
    let pending = find(&status.conditions, ConditionType::SigningKeysReady)
        .is_some_and(|c| c.reason == Reason::RevocationPending.as_str());
    match goal {
        KeyGoal::Rotated { before } if keys.current_kid.is_some() && keys.current_kid != *before => {
            WaitResult::Reached("rotated")
        }
        KeyGoal::Revoked(kids) => {
            let verifies =
                |k: &&crate::api::TenantKeyStatus| kids.contains(&k.kid) || k.state == KeyStatusState::Revoked;
            let left = keys.ring.iter().any(|k| verifies(&k)) || keys.current_kid.is_none() || pending;
            if left { WaitResult::InProgress } else { WaitResult::Reached("revoked") }
        }
        KeyGoal::Rotated { .. } => WaitResult::InProgress,
    }
}

fn explain(tenant: &Tenant) -> String {
    let conditions = tenant.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    find(conditions, ConditionType::SigningKeysReady)
        .map(|c| format!(": {}: {}", c.reason, c.message))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl_tenant::samples::ready_tenant;

    fn keys() -> TenantKeysStatus {
        ready_tenant().status.unwrap().keys.unwrap()
    }

    fn request(revoke: bool, kids: &[&str]) -> Result<KeyRequest, PluginError> {
        let kid = kids.iter().map(|k| Kid::parse(k).unwrap()).collect();
        let args = RotateArgs { name: "acme".to_owned(), revoke, kid, timeout: Duration::ZERO };
        resolve_request(&args, &keys(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_rotation_is_reached_when_another_key_signs() {
        let KeyRequest { goal, annotation, value } = request(false, &[]).unwrap();
        assert_eq!((annotation, value.as_str()), (names::ROTATE_ANNOTATION, "kubectl-0"));
        let mut tenant = ready_tenant();
        assert_eq!(resolve_progress(&goal, Some(&tenant)), WaitResult::InProgress);
        tenant.status.as_mut().unwrap().keys.as_mut().unwrap().current_kid = Some("kid-new".to_owned());
        assert_eq!(resolve_progress(&goal, Some(&tenant)), WaitResult::Reached("rotated"));
    }

    #[test]
    fn a_revocation_is_reached_when_none_of_the_keys_is_left() {
        let KeyRequest { goal, annotation, value } = request(true, &[]).unwrap();
        assert_eq!((annotation, value.as_str()), (names::REVOKE_ANNOTATION, "kid-new,kid-now"));
        let mut tenant = ready_tenant();
        assert_eq!(resolve_progress(&goal, Some(&tenant)), WaitResult::InProgress);
        let keys = tenant.status.as_mut().unwrap().keys.as_mut().unwrap();
        keys.ring.retain(|k| k.kid == "other");
        keys.current_kid = Some("other".to_owned());
        assert_eq!(resolve_progress(&goal, Some(&tenant)), WaitResult::Reached("revoked"));
        // While the Tenant is refused no other key follows, and the revoked ones stay in the keyring.
        let mut refused = ready_tenant();
        let status = refused.status.as_mut().unwrap();
        status.conditions.iter_mut().filter(|c| c.type_ == "Accepted").for_each(|c| c.status = "False".to_owned());
        assert_eq!(resolve_progress(&goal, Some(&refused)), WaitResult::InProgress);
        let keys = refused.status.as_mut().unwrap().keys.as_mut().unwrap();
        keys.ring.iter_mut().for_each(|key| key.state = KeyStatusState::Revoked);
        assert_eq!(signing_kid(keys), None);
        let reached = WaitResult::Reached("revoked; another key signs once the Tenant is accepted");
        assert_eq!(resolve_progress(&goal, Some(&refused)), reached);
        let error = request(true, &["mine"]).unwrap_err();
        assert!(error.to_string().contains("has no key 'mine'; it has 'kid-new', 'kid-now'"), "{error}");
    }
}
