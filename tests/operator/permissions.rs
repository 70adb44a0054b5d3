//! The chart grants exactly what is used: operator and agent API do everything they can do, and the API server's audit log
//! is compared with the rules of the rendered roles.

use super::{
    installation::{Installation, LONG},
    key_rotation::rotate,
    node::{Node, Probe},
    undecodable::relax,
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

/// Permissions that no test is sure to use in reasonable time: component, verb, resource, purpose.
const RARELY_USED: &[(Component, &str, &str, &str)] = &[
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
        "the same warning once more within minutes: it is counted, not written again",
    ),
];

/// One permission of one account: a single group, resource and verb of a rule, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    account: String,
    /// `None`: everywhere.
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// Empty: every name.
    names: Vec<String>,
}

impl Permission {
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

/// The permissions in the rendered roles, with the accounts that have them.
fn permissions(installation: &Installation) -> Vec<Permission> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut permissions = Vec::new();
    for (binding, role) in installation.release.bindings() {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let (groups, resources, verbs) =
                (texts(&rule["apiGroups"]), texts(&rule["resources"]), texts(&rule["verbs"]));
            let one = |group: &String, resource: &String, verb: &String| Permission {
                account: text(&binding["subjects"][0]["name"]).unwrap_or_default(),
                namespace: text(&binding["metadata"]["namespace"]),
                group: group.clone(),
                resource: resource.clone(),
                verb: verb.clone(),
                names: texts(&rule["resourceNames"]),
            };
            for group in &groups {
                for resource in &resources {
                    permissions.extend(verbs.iter().map(|verb| one(group, resource, verb)));
                }
            }
        }
    }
    permissions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_grants_what_is_used_and_nothing_else() -> anyhow::Result<()> {
    // A control plane of its own, because its CRDs are changed. It checks owner references as strictly as some clusters do.
    let options = Options {
        postgres: vec![],
        audit: true,
        apiserver_flags: vec!["--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned()],
        ..Options::default()
    };
    let env = Environment::start(options).await?;
    let installation = Installation::with(&env, &Postgres::shared(PgVersion::NEWEST).await?, json!({})).await?;
    use_every_permission(&installation).await?;

    let requests = env.requests_from(installation.release.namespace())?;
    let forbidden: BTreeSet<&Request> = requests.iter().filter(|r| r.is_forbidden || r.code == 403).collect();
    assert_eq!(forbidden, BTreeSet::new());
    let permissions = permissions(&installation);
    let unused = permissions.iter().filter(|permission| !requests.iter().any(|request| permission.allows(request)));
    let unused: BTreeSet<String> = unused.map(Permission::describe).collect();
    println!(
        "{} permissions, {} requests, {} permissions used rarely",
        permissions.len(),
        requests.len(),
        RARELY_USED.len()
    );
    let mut rare = Vec::new();
    for (component, verb, resource, _) in RARELY_USED {
        rare.push(format!("{} may {verb} {resource} in ", installation.release.account(*component)?));
    }
    let granted = |start: &String| permissions.iter().any(|permission| permission.describe().starts_with(start));
    assert!(rare.iter().all(granted), "listed as rare, and not granted: {rare:?}");
    let unused: Vec<_> =
        unused.iter().filter(|permission| !rare.iter().any(|start| permission.starts_with(start))).collect();
    assert!(unused.is_empty(), "granted, but not used: {unused:?}");
    Ok(())
}

/// Permissions that are missing for a while, as with an API server that was restarted and hasn't read the roles yet, cost
/// seconds and not the five minutes after which other denied requests are tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_granted_late_is_used_within_seconds() -> anyhow::Result<()> {
    let mut installation = Installation::new(PgVersion::NEWEST).await?;
    installation.denials_are_expected = true;
    let _replica = installation.replica().await?;
    let _operator = installation.operator("one").await?;
    installation.agent("support", "You help.").await?;
    let account = installation.release.account(Component::Operator)?;
    let (binding, _) = installation
        .release
        .bindings()
        .find(|(b, _)| b["metadata"]["namespace"] == namespace(&installation) && b["subjects"][0]["name"] == account)
        .context("the operator has no permissions in the Tenants' namespace")?;
    let bindings: Api<RoleBinding> = Api::namespaced(installation.env.client().await?, namespace(&installation));
    bindings.delete(binding["metadata"]["name"].as_str().unwrap_or_default(), &DeleteParams::default()).await?;
    installation.tenant("acme", "Delete").await?;
    let denied = || installation.env.requests_from(installation.release.namespace());
    eventually(LONG, "the operator is denied", || async {
        anyhow::ensure!(denied()?.iter().any(|r| r.is_forbidden && r.resource == "tenants"), "not yet");
        Ok(())
    })
    .await?;
    installation.release.grant(&installation.env).await?;
    installation.wait_ready("acme").await
}

/// Everything that operator and agent API ask the API server for.
async fn use_every_permission(installation: &Installation) -> anyhow::Result<()> {
    let (node, pods) = Node::new(installation).await?;
    let pod = pods.first().context("the chart asks for a Pod")?;
    // The report about a database that is not in the settings any more.
    let client = installation.env.client().await?;
    let databases: Api<DatabaseInstance> = Api::namespaced(client, installation.release.namespace());
    let former = DatabaseInstance::new("former", DatabaseInstanceSpec::default());
    databases.create(&PostParams::default(), &former).await?;
    let operator = installation.operator("one").await?;
    wait_request(installation, "delete", "databaseinstances").await?;
    let replica = node.start(pod).await?;
    node.set_probe(pod, Probe::Ready).await?;

    // A foreign object has the name of the first revision.
    let revisions: Api<ControllerRevision> = Api::namespaced(installation.env.client().await?, namespace(installation));
    let squatter: ControllerRevision =
        serde_json::from_value(json!({ "metadata": { "name": "support-1" }, "revision": 1, "data": {} }))?;
    revisions.create(&PostParams::default(), &squatter).await?;
    installation.agent("support", "You help.").await?;
    wait_request(installation, "get", "controllerrevisions").await?;
    revisions.delete("support-1", &DeleteParams::default()).await?;
    installation.tenant("acme", "Delete").await?;
    installation.wait_ready("acme").await?;

    // More revisions than are kept: each replaces the entry, and some repeat an event.
    for number in 2..=12 {
        installation.agent("support", &format!("You help, {number}.")).await?;
        eventually(LONG, "the revision is served", || async {
            let status = installation.agents.get("support").await?.status.unwrap_or_default();
            anyhow::ensure!(status.revision == Some(number) && ready(&status.conditions), "{:?}", status.revision);
            Ok(())
        })
        .await?;
    }
    assert_eq!(revisions.list(&ListParams::default()).await?.items.len(), 10);

    // A container that restarts takes its Lease over; one that is terminated deletes it.
    replica.kill_9().await?;
    let replica = node.start(pod).await?;
    installation.tenant("globex", "Retain").await?;
    installation.wait_ready("globex").await?;

    rotate(installation, "globex", 1).await?;
    ask_for_a_plan(installation, operator.admin_url()?).await?;
    break_objects(installation).await?;

    for name in ["acme", "globex", "broken"] {
        installation.delete(name).await?;
    }
    installation.wait_no_tenants().await?;
    for name in ["support", "broken"] {
        installation.agents.delete(name, &DeleteParams::default()).await?;
    }
    let agents: Api<DynamicObject> = untyped::<AgentConfig>(installation).await?;
    eventually(LONG, "the AgentConfigs are gone", || async {
        anyhow::ensure!(agents.list(&ListParams::default()).await?.items.is_empty());
        Ok(())
    })
    .await?;
    assert_eq!(installation.entries("tenant").await?, Vec::<String>::new());
    replica.terminate();
    replica.ended().await?;
    operator.process.terminate();
    operator.process.ended().await?;
    Ok(())
}

/// A user with a valid token and without permissions asks for a plan: the operator has to review both.
async fn ask_for_a_plan(installation: &Installation, admin_url: &str) -> anyhow::Result<()> {
    let (system, account) = (installation.release.namespace(), installation.release.account(Component::AgentApi)?);
    let args = ["create", "token", account, "-n", system, "--audience", "agent-tenancy.dev/plan"];
    let token = installation.env.kubectl(&args).await?.ok()?;
    let url = format!("{admin_url}/v1/plan/{}/globex", namespace(installation));
    let answer = reqwest::Client::builder().no_proxy().build()?.get(url).bearer_auth(token.trim()).send().await?;
    assert_eq!(answer.status(), 403, "{}", answer.text().await?);
    Ok(())
}

/// Objects that don't decode, as an older or newer CRD may let them through.
async fn break_objects(installation: &Installation) -> anyhow::Result<()> {
    for name in ["tenants.agent-tenancy.dev", "agentconfigs.agent-tenancy.dev"] {
        relax(installation, name).await?;
    }
    for (api, spec) in [
        (untyped::<agent_tenancy::api::Tenant>(installation).await?, json!({ "agents": "many" })),
        (untyped::<AgentConfig>(installation).await?, json!({ "model": 5 })),
    ] {
        let kind = if spec.get("agents").is_some() { "Tenant" } else { "AgentConfig" };
        let broken: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "agent-tenancy.dev/v1alpha1", "kind": kind, "metadata": { "name": "broken" }, "spec": spec,
        }))?;
        eventually(LONG, "the API server uses the changed CRD", || async {
            Ok(api.create(&PostParams::default(), &broken).await.map(drop)?)
        })
        .await?;
        eventually(LONG, "the condition of the broken object says so", || async {
            let object = api.get("broken").await?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            anyhow::ensure!(conditions.iter().any(|c| c["reason"] == "UndecodableSpec"), "{conditions:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn namespace(installation: &Installation) -> &str {
    &installation.tenants_namespace
}

fn ready(conditions: &[agent_tenancy::api::Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn untyped<K: kube::Resource<DynamicType = ()>>(
    installation: &Installation,
) -> anyhow::Result<Api<DynamicObject>> {
    Ok(Api::namespaced_with(installation.env.client().await?, namespace(installation), &ApiResource::erase::<K>(&())))
}

/// Waits until this request was made.
async fn wait_request(installation: &Installation, verb: &str, resource: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("a request {verb} {resource}"), || async {
        let requests = installation.env.requests_from(installation.release.namespace())?;
        anyhow::ensure!(requests.iter().any(|r| r.verb == verb && r.resource == resource), "not yet");
        Ok(())
    })
    .await
}
