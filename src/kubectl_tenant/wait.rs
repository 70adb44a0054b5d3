//! Waiting until a Tenant is ready or gone, by a watch of that one object.

use super::{
    cluster::Cluster,
    error::PluginError,
    observe::{observe_existing, observe_facts, observe_tenant},
    report::project_report,
    tree::render_unhappy,
    wait_result::{Goal, WaitResult, resolve_wait},
};
use crate::{api::Tenant, clock::Clock, domain::class::ErrorClass};
use futures::{StreamExt, pin_mut};
use kube::{Api, ResourceExt};
use kube_runtime::{WatchStreamExt, watcher, watcher::watch_object};
use std::time::Duration;

/// How it did not come to pass: why, and the unhappy part of the tree where there is one.
pub struct Unreached {
    /// Why.
    pub error: PluginError,
    /// What keeps the Tenant from the goal, as text; empty: not known.
    pub tree: String,
}

impl From<PluginError> for Unreached {
    fn from(error: PluginError) -> Self {
        Self { error, tree: String::new() }
    }
}

/// Waits. Returns the word for what was reached.
///
/// # Errors
/// When the time is over, waiting is of no use, or the Tenant can't be read.
pub async fn wait(cluster: &Cluster, name: &str, goal: Goal, timeout: Duration) -> Result<&'static str, Unreached> {
    let first = match goal {
        Goal::Ready => observe_existing(cluster, name).await?,
        Goal::Deleted => match observe_tenant(cluster, name).await? {
            Some(tenant) => tenant,
            None => return Ok("deleted"),
        },
    };
    let uid = first.uid().unwrap_or_default();
    // With -A the name may have been a tenant id.
    let (namespace, name) = (first.namespace().unwrap_or_default(), first.name_any());
    let mut result = resolve_wait(goal, &uid, Some(&first));
    if result == WaitResult::InProgress {
        let watching = watch(cluster, &namespace, &name, |tenant| resolve_wait(goal, &uid, tenant));
        result = match tokio::time::timeout(timeout, watching).await {
            Ok(result) => result?,
            Err(_) => WaitResult::InProgress,
        };
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
            PluginError::new(ErrorClass::Invalid, format!("Tenant {namespace}/{name} will not get ready: {why}"))
        }
    };
    Err(show(cluster, namespace, &name, error).await)
}

/// An error, with what keeps the Tenant from the goal.
pub async fn show(cluster: &Cluster, namespace: String, name: &str, error: PluginError) -> Unreached {
    let cluster = Cluster { client: cluster.client.clone(), namespace: Some(namespace) };
    // The error stands without the tree; a second failure would only hide it.
    let tree = match observe_tenant(&cluster, name).await {
        Ok(Some(tenant)) => {
            let facts = observe_facts(&cluster.client, tenant, None).await;
            let now = Clock::system().now();
            render_unhappy(&project_report(&facts, now), now)
        }
        Ok(None) | Err(_) => String::new(),
    };
    Unreached { error, tree }
}

/// Watches a Tenant until a judge says more than "not yet".
///
/// # Errors
/// When the right to watch is missing; everything else is tried again.
pub async fn watch(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    judge: impl Fn(Option<&Tenant>) -> WaitResult,
) -> Result<WaitResult, PluginError> {
    let api = Api::<Tenant>::namespaced(cluster.client.clone(), namespace);
    let states = watch_object(api, name).default_backoff();
    pin_mut!(states);
    while let Some(state) = states.next().await {
        let result = match state {
            Ok(tenant) => judge(tenant.as_ref()),
            Err(error) => {
                refused(&error, namespace, name)?;
                WaitResult::InProgress
            }
        };
        if result != WaitResult::InProgress {
            return Ok(result);
        }
    }
    Err(PluginError::new(ErrorClass::Bug, "the watch came to an end"))
}

/// A watch is tried again by itself, but for a missing right, which does not come back.
fn refused(error: &watcher::Error, namespace: &str, name: &str) -> Result<(), PluginError> {
    match error {
        watcher::Error::InitialListFailed(inner)
        | watcher::Error::WatchStartFailed(inner)
        | watcher::Error::WatchFailed(inner) => {
            let error = PluginError::of_kube(inner, &format!("list and watch the Tenant {namespace}/{name}"));
            if error.class() == ErrorClass::Denied { Err(error) } else { Ok(()) }
        }
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => Ok(()),
    }
}
