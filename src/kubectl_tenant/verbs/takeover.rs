//! `takeover`: allowing a Tenant to take over its data from a lost cluster through the admin API, which records the user,
//! and waiting for the takeover.

use crate::{
    api::{Condition, ConditionType, Tenant, names},
    domain::{
        admin_api::{TakeoverAnswer, TakeoverRequest},
        class::ErrorClass,
    },
    kubectl_tenant::{
        clients::admin_api::{AdminApiArgs, AdminApiClient},
        cluster::Cluster,
        duration::parse_duration,
        error::{PluginError, VerbFailure},
        observe::observe_existing,
        report::document::find,
        wait::{
            result::{Goal, WaitResult, resolve_wait},
            watch::{WatchTarget, explain, watch},
        },
    },
};
use kube::ResourceExt;
use std::time::Duration;

/// Allow a Tenant to take over the data of a lost cluster, or data that is kept of another namespace's Tenant
///
/// Requires the verb 'takeover' on the Tenant; for data of another namespace, on Tenants in all namespaces.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TakeoverArgs {
    /// Name of the Tenant
    name: String,
    /// Id of the lost cluster, which the Tenant's Conflict condition names; without it, the kept data of this cluster that
    /// spec.database.adopt.previousUid asks for
    #[arg(long, value_name = "CLUSTER_ID")]
    from: Option<String>,
    #[command(flatten)]
    admin_api: AdminApiArgs,
    /// Longest wait, e.g. 90, 90s, 5m or 1h30m; 0 allows the takeover and does not wait
    #[arg(long, default_value = "90s", value_parser = parse_duration)]
    timeout: Duration,
}

/// Allows the takeover and waits for it; with a timeout of 0 it does not wait.
///
/// # Errors
/// When the operator can't be reached or refuses, the other cluster's last heartbeat is too recent, or the time is over.
pub(crate) async fn run(cluster: &Cluster, args: &TakeoverArgs) -> Result<String, VerbFailure> {
    let timeout = args.timeout;
    let tenant = observe_existing(cluster, &args.name).await?;
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let admin_api = AdminApiClient::open(cluster, &args.admin_api).await?;
    let request = TakeoverRequest { namespace: namespace.clone(), name: name.clone(), from: args.from.clone() };
    let answer = admin_api.perform_allow_takeover(&request).await?;
    let object = format!("tenant.{}/{name}", names::GROUP);
    let wait = answer.wait_seconds;
    let from = args.from.as_ref().map_or_else(|| "another namespace".to_owned(), |id| format!("cluster {id}"));
    let delay = format!("the last heartbeat of {from} is too recent; the takeover starts in {wait}s without another");
    if timeout.is_zero() {
        let then = if wait > 0 { format!(": {delay}") } else { String::new() };
        return Ok(format!("{object} allowed{then}\n"));
    }
    if wait > timeout.as_secs() {
        let text = format!("Tenant {namespace}/{name}: allowed, but not done yet: {delay}");
        return Err(PluginError::new(ErrorClass::Waiting, text).into());
    }
    if wait > 0 {
        eprintln!("note: allowed; {delay}");
    }
    let target = WatchTarget { namespace: &namespace, name: &name, timeout };
    let error = match watch(cluster, &target, |now| resolve_taken(&tenant, &answer, now)).await {
        Ok(WaitResult::Reached(word)) => return Ok(format!("{object} {word} from {from}\n")),
        Ok(WaitResult::Failed(why)) => {
            PluginError::new(ErrorClass::Invalid, format!("Tenant {namespace}/{name}: allowed, but {why}"))
        }
        Err(error) => error,
        Ok(WaitResult::InProgress) => {
            let text = format!("Tenant {namespace}/{name}: allowed, but not done after {}s", timeout.as_secs());
            PluginError::new(ErrorClass::Waiting, text)
        }
    };
    Err(explain(cluster, namespace, &name, error).await)
}

/// Judges one state of the Tenant. Conditions of `before`, the state when the takeover was allowed, are outdated.
fn resolve_taken(before: &Tenant, answer: &TakeoverAnswer, now: Option<&Tenant>) -> WaitResult {
    let Some(tenant) = now else { return WaitResult::Failed("it was deleted".to_owned()) };
    if tenant.metadata.uid != before.metadata.uid {
        return WaitResult::Failed("it was replaced by another Tenant of that name".to_owned());
    }
    let database = tenant.status.as_ref().and_then(|s| s.database.as_ref());
    let taken = database.is_some_and(|d| d.incarnation == answer.incarnation.to_string());
    let paused = condition(tenant, ConditionType::Paused).is_some_and(|c| c.status == "True");
    let accepted = |tenant| condition(tenant, ConditionType::Accepted).cloned();
    if !taken && !paused && accepted(tenant) == accepted(before) {
        return WaitResult::InProgress;
    }
    match resolve_wait(Goal::Ready, before.metadata.uid.as_deref().unwrap_or_default(), now) {
        WaitResult::Reached(_) if taken => WaitResult::Reached("ready, with the data taken over"),
        WaitResult::Reached(_) => WaitResult::InProgress,
        other @ (WaitResult::InProgress | WaitResult::Failed(_)) => other,
    }
}

fn condition(tenant: &Tenant, type_: ConditionType) -> Option<&Condition> {
    tenant.status.as_ref().and_then(|status| find(&status.conditions, type_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl_tenant::samples::{ready_tenant, waiting_tenant};

    fn answer() -> TakeoverAnswer {
        let incarnation = ready_tenant().status.unwrap().database.unwrap().incarnation;
        let document = serde_json::json!({ "tenantId": "acme", "incarnation": incarnation, "done": false,
                                           "waitSeconds": 0 });
        serde_json::from_value(document).unwrap()
    }

    /// A Tenant in conflict: the ledger gives its tenant id to another one.
    fn refused(message: &str) -> Tenant {
        let mut tenant = waiting_tenant();
        let status = tenant.status.as_mut().unwrap();
        status.database = None;
        let mut accepted = status.conditions[0].clone();
        (accepted.type_, accepted.status) = ("Accepted".into(), "False".into());
        (accepted.reason, accepted.message) = ("Conflict".into(), message.into());
        let stalled = Condition { type_: "Stalled".into(), status: "True".into(), ..accepted.clone() };
        status.conditions = vec![accepted, stalled];
        tenant
    }

    #[test]
    fn conditions_from_before_the_takeover_was_allowed_are_ignored() {
        let before = refused("of cluster lost");
        let judge = |now: &Tenant| resolve_taken(&before, &answer(), Some(now));
        assert_eq!(judge(&before), WaitResult::InProgress);
        let WaitResult::Failed(why) = judge(&refused("its role is missing")) else { panic!("still waiting") };
        assert!(why.contains("its role is missing"), "{why}");
        assert_eq!(judge(&ready_tenant()), WaitResult::Reached("ready, with the data taken over"));
    }

    #[test]
    fn other_data_does_not_end_the_wait() {
        let before = refused("of cluster lost");
        let mut other = ready_tenant();
        other.status.as_mut().unwrap().database.as_mut().unwrap().incarnation = "another".into();
        assert_eq!(resolve_taken(&before, &answer(), Some(&other)), WaitResult::InProgress);
        other = ready_tenant();
        other.metadata.uid = Some("u-2".into());
        assert!(matches!(resolve_taken(&before, &answer(), Some(&other)), WaitResult::Failed(_)));
        assert!(matches!(resolve_taken(&before, &answer(), None), WaitResult::Failed(_)));
    }

    #[test]
    fn a_paused_tenant_is_not_waited_for() {
        let mut paused = refused("of cluster lost");
        let status = paused.status.as_mut().unwrap();
        let condition = Condition { type_: "Paused".into(), status: "True".into(), ..status.conditions[0].clone() };
        status.conditions.push(condition);
        assert!(matches!(resolve_taken(&paused.clone(), &answer(), Some(&paused)), WaitResult::Failed(_)));
    }
}
