//! Letting a Tenant take over what a lost cluster left: the operator is asked at its door, where it records who said so;
//! then the takeover is waited for.

use super::{
    cluster::Cluster,
    door::{Door, DoorArgs},
    error::PluginError,
    observe::observe_existing,
    report::find,
    verdict::{Goal, Verdict, resolve_verdict},
    wait::{Unreached, show, watch},
};
use crate::{
    api::{Condition, ConditionType, Tenant, names},
    domain::class::ErrorClass,
    plan::takeover_request::{TakeoverAnswer, TakeoverRequest},
};
use kube::ResourceExt;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct TakeoverArgs {
    /// Id of the lost cluster, as the Tenant's Conflict names it
    #[arg(long, value_name = "CLUSTER_ID")]
    pub from: String,
    #[command(flatten)]
    pub door: DoorArgs,
}

/// Allows the takeover and waits for it; no time: only allows. Returns what to print.
///
/// # Errors
/// When the operator can't be asked or refuses, the other cluster is not silent for long enough yet, or the time is over.
pub async fn takeover(
    cluster: &Cluster,
    name: &str,
    args: &TakeoverArgs,
    timeout: Duration,
) -> Result<String, Unreached> {
    let tenant = observe_existing(cluster, name).await?;
    let (namespace, name) = (tenant.namespace().unwrap_or_default(), tenant.name_any());
    let door = Door::open(cluster, &args.door).await?;
    let request = TakeoverRequest { namespace: namespace.clone(), name: name.clone(), from: args.from.clone() };
    let answer = door.perform_allow_takeover(&request).await?;
    let object = format!("tenant.{}/{name}", names::GROUP);
    let (from, wait) = (&args.from, answer.wait_seconds);
    let silence = format!("cluster {from} was heard of too recently; it is taken over in {wait}s if it stays silent");
    if timeout.is_zero() {
        let then = if wait > 0 { format!(": {silence}") } else { String::new() };
        return Ok(format!("{object} allowed{then}\n"));
    }
    if wait > timeout.as_secs() {
        let text = format!("Tenant {namespace}/{name}: allowed, and not done yet: {silence}");
        return Err(PluginError::new(ErrorClass::Waiting, text).into());
    }
    if wait > 0 {
        eprintln!("note: allowed; {silence}");
    }
    let watching = watch(cluster, &namespace, &name, |now| resolve_taken(&tenant, &answer, now));
    let error = match tokio::time::timeout(timeout, watching).await {
        Ok(Ok(Verdict::Reached(word))) => return Ok(format!("{object} {word} from cluster {from}\n")),
        Ok(Ok(Verdict::Hopeless(why))) => {
            PluginError::new(ErrorClass::Invalid, format!("Tenant {namespace}/{name}: allowed, but {why}"))
        }
        Ok(Err(error)) => error,
        Ok(Ok(Verdict::Waiting)) | Err(_) => {
            let text = format!("Tenant {namespace}/{name}: allowed, and not done after {}s", timeout.as_secs());
            PluginError::new(ErrorClass::Waiting, text)
        }
    };
    Err(show(cluster, namespace, &name, error).await)
}

/// Judges a state of the Tenant. `before` is what it was when the operator was asked: what it said then counts no more.
fn resolve_taken(before: &Tenant, answer: &TakeoverAnswer, now: Option<&Tenant>) -> Verdict {
    let Some(tenant) = now else { return Verdict::Hopeless("it was deleted meanwhile".to_owned()) };
    if tenant.metadata.uid != before.metadata.uid {
        return Verdict::Hopeless("it is another Tenant of that name by now".to_owned());
    }
    let database = tenant.status.as_ref().and_then(|s| s.database.as_ref());
    let taken = database.is_some_and(|d| d.incarnation == answer.incarnation.to_string());
    let paused = condition(tenant, ConditionType::Paused).is_some_and(|c| c.status == "True");
    let said = |tenant| condition(tenant, ConditionType::Accepted).cloned();
    if !taken && !paused && said(tenant) == said(before) {
        return Verdict::Waiting;
    }
    match resolve_verdict(Goal::Ready, before.metadata.uid.as_deref().unwrap_or_default(), now) {
        Verdict::Reached(_) if taken => Verdict::Reached("ready, with the data taken over"),
        Verdict::Reached(_) => Verdict::Waiting,
        other @ (Verdict::Waiting | Verdict::Hopeless(_)) => other,
    }
}

fn condition(tenant: &Tenant, type_: ConditionType) -> Option<&Condition> {
    tenant.status.as_ref().and_then(|status| find(&status.conditions, type_))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ready_tenant, waiting_tenant};
    use super::*;

    fn answer() -> TakeoverAnswer {
        let incarnation = ready_tenant().status.unwrap().database.unwrap().incarnation;
        let document = serde_json::json!({ "tenantId": "acme", "incarnation": incarnation, "done": false,
                                           "waitSeconds": 0 });
        serde_json::from_value(document).unwrap()
    }

    /// Refused: the ledger gives the id to somebody else.
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
    fn what_was_said_before_it_was_allowed_is_waited_out() {
        let before = refused("of cluster lost");
        let judge = |now: &Tenant| resolve_taken(&before, &answer(), Some(now));
        assert_eq!(judge(&before), Verdict::Waiting);
        let Verdict::Hopeless(why) = judge(&refused("its role is gone")) else { panic!("still waiting") };
        assert!(why.contains("its role is gone"), "{why}");
        assert_eq!(judge(&ready_tenant()), Verdict::Reached("ready, with the data taken over"));
    }

    #[test]
    fn other_data_is_not_what_was_waited_for() {
        let before = refused("of cluster lost");
        let mut other = ready_tenant();
        other.status.as_mut().unwrap().database.as_mut().unwrap().incarnation = "another".into();
        assert_eq!(resolve_taken(&before, &answer(), Some(&other)), Verdict::Waiting);
        other = ready_tenant();
        other.metadata.uid = Some("u-2".into());
        assert!(matches!(resolve_taken(&before, &answer(), Some(&other)), Verdict::Hopeless(_)));
        assert!(matches!(resolve_taken(&before, &answer(), None), Verdict::Hopeless(_)));
    }

    #[test]
    fn a_paused_tenant_is_not_waited_for() {
        let mut paused = refused("of cluster lost");
        let status = paused.status.as_mut().unwrap();
        let condition = Condition { type_: "Paused".into(), status: "True".into(), ..status.conditions[0].clone() };
        status.conditions.push(condition);
        assert!(matches!(resolve_taken(&paused.clone(), &answer(), Some(&paused)), Verdict::Hopeless(_)));
    }
}
