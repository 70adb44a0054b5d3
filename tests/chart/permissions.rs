//! Permissions of an installation's ServiceAccounts, as the API server evaluates them.

use super::install::Release;
use devkit::eventually;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use std::time::Duration;

/// Where a permission is checked.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The release's namespace.
    System,
    /// The namespace with Tenants.
    Tenants,
    /// The registry's namespace.
    Registry,
    /// A namespace that the release does not manage.
    Elsewhere,
    /// All namespaces, and cluster-scoped resources.
    Cluster,
}
use Place::{Cluster, Elsewhere, Registry, System, Tenants};

/// `resource.subresource/group=name`, all but the resource optional; verbs; places.
type Permissions = &'static [(&'static str, &'static [&'static str], &'static [Place])];

const OPERATOR_MAY: Permissions = &[
    ("tenants/agent-tenancy.dev", &["get", "list", "watch", "patch"], &[Tenants]),
    ("agentconfigs/agent-tenancy.dev", &["get", "list", "watch", "patch"], &[Tenants]),
    ("tenants.status/agent-tenancy.dev", &["patch"], &[Tenants]),
    ("agentconfigs.status/agent-tenancy.dev", &["patch"], &[Tenants]),
    ("secrets", &["get", "create", "update", "delete"], &[Tenants, Registry]),
    ("secrets", &["list", "watch"], &[Registry]),
    ("controllerrevisions/apps", &["get", "list", "create", "delete"], &[Tenants]),
    ("events/events.k8s.io", &["create", "patch"], &[Tenants]),
    ("leases/coordination.k8s.io", &["list", "watch", "create", "delete"], &[System]),
    ("leases/coordination.k8s.io=demo-agent-tenancy-operator", &["get", "update"], &[System]),
    ("pods", &["list", "watch"], &[System]),
];

const OPERATOR_MAY_NOT: Permissions = &[
    ("secrets", &["list", "watch", "deletecollection"], &[Tenants, System, Elsewhere, Cluster]),
    ("secrets", &["get", "create", "update", "delete"], &[System, Elsewhere, Cluster]),
    ("secrets", &["patch"], &[Tenants, Registry]),
    ("tenants/agent-tenancy.dev", &["create", "update", "delete", "deletecollection"], &[Tenants]),
    ("tenants/agent-tenancy.dev", &["get", "list", "watch"], &[Elsewhere, Cluster]),
    ("tenants.finalizers/agent-tenancy.dev", &["update"], &[Tenants]),
    ("leases/coordination.k8s.io=another", &["get", "update", "patch"], &[System]),
    ("leases/coordination.k8s.io", &["get", "create"], &[Tenants, Elsewhere]),
    ("pods", &["get", "create", "delete"], &[System]),
    ("pods.exec", &["create"], &[System]),
    ("deployments/apps", &["update", "patch", "delete"], &[System]),
    ("namespaces", &["list", "create", "delete"], &[Cluster]),
    ("roles/rbac.authorization.k8s.io", &["create", "escalate", "bind"], &[System, Tenants]),
    ("serviceaccounts.token", &["create"], &[System]),
    ("customresourcedefinitions/apiextensions.k8s.io", &["get", "update"], &[Cluster]),
];

const AGENT_API_MAY: Permissions = &[
    ("secrets", &["list", "watch"], &[Registry]),
    ("leases/coordination.k8s.io", &["create", "patch", "delete"], &[System]),
];

const AGENT_API_MAY_NOT: Permissions = &[
    ("secrets", &["get", "create", "update", "patch", "delete"], &[Registry]),
    ("secrets", &["get", "list", "watch"], &[System, Tenants, Elsewhere, Cluster]),
    ("tenants/agent-tenancy.dev", &["get", "list", "watch", "update"], &[Tenants, Cluster]),
    ("leases/coordination.k8s.io", &["get", "list", "watch", "update"], &[System]),
    ("leases/coordination.k8s.io", &["get", "create", "list"], &[Tenants, Registry, Elsewhere]),
    ("pods", &["get", "list", "delete"], &[System]),
];

async fn is_allowed(client: &Client, release: &Release, account: &str, place: Place, what: &str, verb: &str) -> bool {
    let (what, name) = what.split_once('=').map_or((what, None), |(what, name)| (what, Some(name)));
    let (resource, group) = what.split_once('/').unwrap_or((what, ""));
    let (resource, subresource) = resource.split_once('.').map_or((resource, None), |(r, s)| (r, Some(s)));
    let namespace = match place {
        System => Some(release.system.clone()),
        Tenants => Some(release.tenants.clone()),
        Registry => Some(release.registry.clone()),
        Elsewhere => Some("default".to_owned()),
        Cluster => None,
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{}:{account}", release.system)),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", release.system),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                name: name.map(str::to_owned),
                namespace,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

/// Every difference between the API server's answers and the tables.
async fn disagreements(client: &Client, release: &Release) -> Vec<String> {
    let (operator, agent_api) = ("demo-agent-tenancy-operator", "demo-agent-tenancy-agent-api");
    let mut found = Vec::new();
    for (account, permissions, expected) in [
        (operator, OPERATOR_MAY, true),
        (operator, OPERATOR_MAY_NOT, false),
        (agent_api, AGENT_API_MAY, true),
        (agent_api, AGENT_API_MAY_NOT, false),
    ] {
        for (what, verbs, places) in permissions {
            for (verb, place) in verbs.iter().flat_map(|verb| places.iter().map(move |place| (verb, place))) {
                if is_allowed(client, release, account, *place, what, verb).await != expected {
                    let may = if expected { "may not" } else { "may" };
                    found.push(format!("{account} {may} {verb} {what} in {place:?}"));
                }
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn service_accounts_may_do_what_they_must_and_no_more() {
    let release = Release::prepare().await;
    release.helm("install", &["--set", "crds.install=false"]).await.unwrap();
    let client = release.env.client().await.unwrap();
    // The API server's caches of the new roles may be behind.
    eventually(Duration::from_secs(20), "the API server agrees with the tables", || async {
        let found = disagreements(&client, &release).await;
        if found.is_empty() { Ok(()) } else { Err(std::io::Error::other(found.join("\n")).into()) }
    })
    .await
    .unwrap();
}

/// Without a scope the operator has its permissions in every namespace, and still can't list Secrets.
#[tokio::test(flavor = "multi_thread")]
async fn an_unscoped_operator_still_lists_no_secrets() {
    let mut release = Release::prepare().await;
    release.is_scoped = false;
    release.helm("install", &["--set", "crds.install=false"]).await.unwrap();
    let client = release.env.client().await.unwrap();
    let operator = "demo-agent-tenancy-operator";
    eventually(Duration::from_secs(20), "the operator may work everywhere", || async {
        let may = is_allowed(&client, &release, operator, Cluster, "tenants/agent-tenancy.dev", "watch").await
            && is_allowed(&client, &release, operator, Elsewhere, "secrets=tenant-keys", "get").await
            && is_allowed(&client, &release, operator, Cluster, "namespaces=kube-system", "get").await;
        if may { Ok(()) } else { Err(std::io::Error::other("not yet").into()) }
    })
    .await
    .unwrap();
    for (place, what, verb) in [
        (Cluster, "secrets", "list"),
        (Cluster, "secrets", "watch"),
        (Elsewhere, "secrets", "list"),
        (Cluster, "namespaces=default", "get"),
    ] {
        assert!(!is_allowed(&client, &release, operator, place, what, verb).await, "{verb} {what}");
    }
    release.uninstall().await;
}
