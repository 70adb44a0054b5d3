//! The chart grants exactly what is used: operator and agent API live a full life, and the API server's audit log is held
//! against the rules of the rendered roles.

use super::{
    broken::relax,
    fleet::{Fleet, LONG},
    node::{Node, Probe},
    rotation::rotate,
};
use agent_tenancy::api::{AgentConfig, DatabaseInstance, DatabaseInstanceSpec};
use anyhow::Context as _;
use devkit::{Component, Environment, Options, PgVersion, Postgres, Request, eventually};
use k8s_openapi::api::{apps::v1::ControllerRevision, rbac::v1::RoleBinding};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, PostParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Rights that no story is sure to use in reasonable time: whose, verb, resource, what for.
const RARE: &[(Component, &str, &str, &str)] = &[
    (
        Component::Operator,
        "delete",
        "leases",
        "every ten minutes: Leases that nobody has renewed for an hour and that have no Pod to go with",
    ),
    (
        Component::Operator,
        "patch",
        "events",
        "the same warning once more within minutes: it is counted, not written anew",
    ),
];

/// One right of one account: a rule's single group, resource and verb, in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    account: String,
    /// `None`: everywhere.
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Empty: every name.
    names: Vec<String>,
}

impl Right {
    fn allows(&self, request: &Request) -> bool {
        let Self { account, namespace, group, resource, verb, names } = self;
        *account == request.account
            && namespace.as_ref().is_none_or(|n| *n == request.namespace)
            && (group, resource, verb) == (&request.group, &request.resource, &request.verb)
            && (names.is_empty() || names.contains(&request.name))
    }

    fn describe(&self) -> String {
        let place = self.namespace.as_deref().unwrap_or("the cluster");
        format!("{} may {} {} in {place}", self.account, self.verb, self.resource)
    }
}

/// The rights in the rendered roles, bound to their accounts.
fn rights(fleet: &Fleet) -> Vec<Right> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut rights = Vec::new();
    for (binding, role) in fleet.release.bindings() {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let (groups, resources, verbs) =
                (texts(&rule["apiGroups"]), texts(&rule["resources"]), texts(&rule["verbs"]));
            let one = |group: &String, resource: &String, verb: &String| Right {
                account: text(&binding["subjects"][0]["name"]).unwrap_or_default(),
                namespace: text(&binding["metadata"]["namespace"]),
                group: group.clone(),
                resource: resource.clone(),
                verb: verb.clone(),
                names: texts(&rule["resourceNames"]),
            };
            for group in &groups {
                for resource in &resources {
                    rights.extend(verbs.iter().map(|verb| one(group, resource, verb)));
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_grants_what_is_used_and_nothing_else() -> anyhow::Result<()> {
    // A control plane of its own, because the CRDs are loosened in it; and as strict about owners as some clusters are.
    let options = Options {
        postgres: vec![],
        audit: true,
        apiserver_flags: vec!["--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned()],
        ..Options::default()
    };
    let env = Environment::start(options).await?;
    let fleet = Fleet::with(&env, &Postgres::shared(PgVersion::NEWEST).await?, json!({})).await?;
    live_a_full_life(&fleet).await?;

    let requests = env.requests_from(fleet.release.namespace())?;
    let forbidden: BTreeSet<&Request> = requests.iter().filter(|r| r.is_forbidden || r.code == 403).collect();
    assert_eq!(forbidden, BTreeSet::new());
    let rights = rights(&fleet);
    let unused = rights.iter().filter(|right| !requests.iter().any(|request| right.allows(request)));
    let unused: BTreeSet<String> = unused.map(Right::describe).collect();
    println!("{} rights, {} requests, {} rights used rarely", rights.len(), requests.len(), RARE.len());
    let mut rare = Vec::new();
    for (who, verb, resource, _) in RARE {
        rare.push(format!("{} may {verb} {resource} in ", fleet.release.account(*who)?));
    }
    let granted = |start: &String| rights.iter().any(|right| right.describe().starts_with(start));
    assert!(rare.iter().all(granted), "listed as rare, and not granted: {rare:?}");
    let unused: Vec<_> = unused.iter().filter(|right| !rare.iter().any(|start| right.starts_with(start))).collect();
    assert!(unused.is_empty(), "granted, but nobody uses it: {unused:?}");
    Ok(())
}

/// Rights that are missing for a while, as with an API server that was restarted and hasn't read the roles yet, cost
/// seconds and not the five minutes after which everything else that is denied is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_was_missing_is_missed_no_longer_than_it_was_missing() -> anyhow::Result<()> {
    let mut fleet = Fleet::new(PgVersion::NEWEST).await?;
    fleet.denials_are_expected = true;
    let _replica = fleet.replica().await?;
    let _operator = fleet.operator("one").await?;
    fleet.agent("support", "You help.").await?;
    let account = fleet.release.account(Component::Operator)?;
    let (binding, _) = fleet
        .release
        .bindings()
        .find(|(b, _)| b["metadata"]["namespace"] == namespace(&fleet) && b["subjects"][0]["name"] == account)
        .context("the operator has no rights where the Tenants are")?;
    let bindings: Api<RoleBinding> = Api::namespaced(fleet.env.client().await?, namespace(&fleet));
    bindings.delete(binding["metadata"]["name"].as_str().unwrap_or_default(), &DeleteParams::default()).await?;
    fleet.tenant("acme", "Delete").await?;
    let denied = || fleet.env.requests_from(fleet.release.namespace());
    eventually(LONG, "the operator is denied", || async {
        anyhow::ensure!(denied()?.iter().any(|r| r.is_forbidden && r.resource == "tenants"), "not yet");
        Ok(())
    })
    .await?;
    fleet.release.grant(&fleet.env).await?;
    fleet.wait_ready("acme").await
}

/// Everything that operator and agent API do in the API server.
async fn live_a_full_life(fleet: &Fleet) -> anyhow::Result<()> {
    let (node, pods) = Node::new(fleet).await?;
    let pod = pods.first().context("the chart asks for a Pod")?;
    // What was said of a database that is not in the settings any more.
    let client = fleet.env.client().await?;
    let databases: Api<DatabaseInstance> = Api::namespaced(client, fleet.release.namespace());
    let former = DatabaseInstance::new("former", DatabaseInstanceSpec::default());
    databases.create(&PostParams::default(), &former).await?;
    let operator = fleet.operator("one").await?;
    asked(fleet, "delete", "databaseinstances").await?;
    let replica = node.start(pod).await?;
    node.say(pod, Probe::Ready).await?;

    // Somebody else has the name of the first revision.
    let revisions: Api<ControllerRevision> = Api::namespaced(fleet.env.client().await?, namespace(fleet));
    let squatter: ControllerRevision =
        serde_json::from_value(json!({ "metadata": { "name": "support-1" }, "revision": 1, "data": {} }))?;
    revisions.create(&PostParams::default(), &squatter).await?;
    fleet.agent("support", "You help.").await?;
    asked(fleet, "get", "controllerrevisions").await?;
    revisions.delete("support-1", &DeleteParams::default()).await?;
    fleet.tenant("acme", "Delete").await?;
    fleet.wait_ready("acme").await?;

    // More revisions than are kept; each replaces the entry, and some are told with the same event again.
    for number in 2..=12 {
        fleet.agent("support", &format!("You help, {number}.")).await?;
        eventually(LONG, "the revision is served", || async {
            let status = fleet.agents.get("support").await?.status.unwrap_or_default();
            anyhow::ensure!(status.revision == Some(number) && ready(&status.conditions), "{:?}", status.revision);
            Ok(())
        })
        .await?;
    }
    assert_eq!(revisions.list(&ListParams::default()).await?.items.len(), 10);

    // A container that dies and comes again takes its Lease over; one that is told to stop takes it away.
    replica.kill_9().await?;
    let replica = node.start(pod).await?;
    fleet.tenant("globex", "Retain").await?;
    fleet.wait_ready("globex").await?;

    rotate(fleet, "globex", 1).await?;
    ask_for_a_plan(fleet, operator.admin_url()?).await?;
    break_objects(fleet).await?;

    for name in ["acme", "globex", "broken"] {
        fleet.delete(name).await?;
    }
    fleet.wait_no_tenants().await?;
    for name in ["support", "broken"] {
        fleet.agents.delete(name, &DeleteParams::default()).await?;
    }
    let agents: Api<DynamicObject> = untyped::<AgentConfig>(fleet).await?;
    eventually(LONG, "the AgentConfigs are gone", || async {
        anyhow::ensure!(agents.list(&ListParams::default()).await?.items.is_empty());
        Ok(())
    })
    .await?;
    assert_eq!(fleet.entries("tenant").await?, Vec::<String>::new());
    replica.terminate();
    replica.ended().await?;
    operator.process.terminate();
    operator.process.ended().await?;
    Ok(())
}

/// Somebody whose token is good and who has no rights asks for a plan: the operator has to review both.
async fn ask_for_a_plan(fleet: &Fleet, door: &str) -> anyhow::Result<()> {
    let (system, account) = (fleet.release.namespace(), fleet.release.account(Component::AgentApi)?);
    let args = ["create", "token", account, "-n", system, "--audience", "agent-tenancy.dev/plan"];
    let token = fleet.env.kubectl(&args).await?.ok()?;
    let url = format!("{door}/v1/plan/{}/globex", namespace(fleet));
    let answer = reqwest::Client::builder().no_proxy().build()?.get(url).bearer_auth(token.trim()).send().await?;
    assert_eq!(answer.status(), 403, "{}", answer.text().await?);
    Ok(())
}

/// Objects that don't decode, as an older or newer CRD may let them through.
async fn break_objects(fleet: &Fleet) -> anyhow::Result<()> {
    for name in ["tenants.agent-tenancy.dev", "agentconfigs.agent-tenancy.dev"] {
        relax(fleet, name).await?;
    }
    for (api, spec) in [
        (untyped::<agent_tenancy::api::Tenant>(fleet).await?, json!({ "agents": "many" })),
        (untyped::<AgentConfig>(fleet).await?, json!({ "model": 5 })),
    ] {
        let kind = if spec.get("agents").is_some() { "Tenant" } else { "AgentConfig" };
        let broken: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": kind, "metadata": { "name": "broken" }, "spec": spec,
        }))?;
        eventually(LONG, "the loose CRD is in force", || async {
            Ok(api.create(&PostParams::default(), &broken).await.map(drop)?)
        })
        .await?;
        eventually(LONG, "the broken object says so", || async {
            let object = api.get("broken").await?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            anyhow::ensure!(conditions.iter().any(|c| c["reason"] == "UnreadableSpec"), "{conditions:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn namespace(fleet: &Fleet) -> &str {
    &fleet.tenants_namespace
}

fn ready(conditions: &[agent_tenancy::api::Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn untyped<K: kube::Resource<DynamicType = ()>>(fleet: &Fleet) -> anyhow::Result<Api<DynamicObject>> {
    Ok(Api::namespaced_with(fleet.env.client().await?, namespace(fleet), &ApiResource::erase::<K>(&())))
}

/// Waits until this was asked for.
async fn asked(fleet: &Fleet, verb: &str, resource: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("somebody does {verb} {resource}"), || async {
        let requests = fleet.env.requests_from(fleet.release.namespace())?;
        anyhow::ensure!(requests.iter().any(|r| r.verb == verb && r.resource == resource), "not yet");
        Ok(())
    })
    .await
}
