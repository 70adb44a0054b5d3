//! Waiting until a Tenant is ready or deleted, by a watch of that one object.

use super::result::{Goal, WaitResult, resolve_wait};
use crate::{
    api::Tenant,
    clock::Clock,
    domain::class::ErrorClass,
    kubectl_tenant::{
        cluster::Cluster,
        error::{PluginError, VerbFailure},
        observe::{observe_existing, observe_facts, observe_tenant},
        report::{document::project_report, tree::render_unhealthy},
    },
};
use futures::{StreamExt, pin_mut};
use kube::{Api, ResourceExt};
use kube_runtime::{WatchStreamExt, watcher, watcher::watch_object};
use std::time::Duration;

/// Waits for the goal. Returns the word for it.
///
/// # Errors
/// When the time is over, manual intervention is required, or the Tenant can't be read.
pub(crate) async fn wait(
    cluster: &Cluster,
    name: &str,
    goal: Goal,
    timeout: Duration,
) -> Result<&'static str, VerbFailure> {
    let first = match goal {
        Goal::Ready => observe_existing(cluster, name).await?,
        Goal::Deleted => match observe_tenant(cluster, name).await? {
            Some(tenant) => tenant,
            None => return Ok("deleted"),
        },
    };
    let uid = first.uid().unwrap_or_default();
    // With -A, `name` may be a tenant id.
    let (namespace, name) = (first.namespace().unwrap_or_default(), first.name_any());
    let mut result = resolve_wait(goal, &uid, Some(&first));
    if result == WaitResult::InProgress {
        let target = WatchTarget { namespace: &namespace, name: &name, timeout };
        result = watch(cluster, &target, |tenant| resolve_wait(goal, &uid, tenant)).await?;
    }
    let error = match result {
        WaitResult::Reached(word) => return Ok(word),
        WaitResult::InProgress => {
            let wanted = match goal {
                Goal::Ready => "ready",
                Goal::Deleted => "deleted",
            };
            let text = format!("Tenant {namespace}/{name} is not {wanted} after {}s", timeout.as_secs());
            PluginError::new(ErrorClass::Waiting, text)
        }
        WaitResult::Failed(why) => {
            PluginError::new(ErrorClass::Invalid, format!("Tenant {namespace}/{name} will not become ready: {why}"))
        }
    };
    Err(explain(cluster, namespace, &name, error).await)
}

/// An error, with the unhealthy part of the Tenant's tree.
pub(crate) async fn explain(cluster: &Cluster, namespace: String, name: &str, error: PluginError) -> VerbFailure {
    let cluster = Cluster { client: cluster.client.clone(), namespace: Some(namespace), namespace_is_given: false };
    // Without the tree the first error is still reported; a second error would hide it.
    let details = match observe_tenant(&cluster, name).await {
        Ok(Some(tenant)) => {
            let facts = observe_facts(&cluster.client, tenant, None).await;
            let now = Clock::system().now();
            render_unhealthy(&project_report(&facts, now), now)
        }
        Ok(None) | Err(_) => String::new(),
    };
    VerbFailure { details, ..error.into() }
}

/// A Tenant, and for how long it is watched.
pub(crate) struct WatchTarget<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) timeout: Duration,
}

/// Watches a Tenant until `judge` returns another result than "in progress", or the time is over.
///
/// # Errors
/// When permission to watch is missing; every other error is retried.
pub(crate) async fn watch(
    cluster: &Cluster,
    target: &WatchTarget<'_>,
    judge: impl Fn(Option<&Tenant>) -> WaitResult,
) -> Result<WaitResult, PluginError> {
    match tokio::time::timeout(target.timeout, watch_unbounded(cluster, target, judge)).await {
        Ok(result) => result,
        Err(_) => Ok(WaitResult::InProgress),
    }
}

async fn watch_unbounded(
    cluster: &Cluster,
    target: &WatchTarget<'_>,
    judge: impl Fn(Option<&Tenant>) -> WaitResult,
) -> Result<WaitResult, PluginError> {
    let api = Api::<Tenant>::namespaced(cluster.client.clone(), target.namespace);
    let states = watch_object(api, target.name).default_backoff();
    pin_mut!(states);
    while let Some(state) = states.next().await {
        let result = match state {
            Ok(tenant) => judge(tenant.as_ref()),
            Err(error) => {
                check_permission(&error, target)?;
                WaitResult::InProgress
            }
        };
        if result != WaitResult::InProgress {
            return Ok(result);
        }
    }
    Err(PluginError::new(ErrorClass::Bug, "the watch ended"))
}

/// The watcher retries every error; only a missing permission ends the wait.
fn check_permission(error: &watcher::Error, target: &WatchTarget<'_>) -> Result<(), PluginError> {
    match error {
        watcher::Error::InitialListFailed(inner)
        | watcher::Error::WatchStartFailed(inner)
        | watcher::Error::WatchFailed(inner) => {
            let error =
                PluginError::of_kube(inner, &format!("list and watch the Tenant {}/{}", target.namespace, target.name));
            if error.class() == ErrorClass::Denied { Err(error) } else { Ok(()) }
        }
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => Ok(()),
    }
}
