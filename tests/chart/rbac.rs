//! Permissions in the rendered roles: no wildcards, and none that allow privilege escalation.

use super::support::{find, of_kind, render, variants};
use serde_json::Value;

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Permissions of a role that are too broad.
fn faults(role: &Value) -> Vec<String> {
    let cluster_wide = role["kind"] == "ClusterRole";
    let mut faults = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let (verbs, resources) = (texts(&rule["verbs"]), texts(&rule["resources"]));
        for list in ["apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs"] {
            if texts(&rule[list]).iter().any(|text| text.contains('*')) {
                faults.push(format!("wildcard in {list}"));
            }
        }
        for verb in ["escalate", "bind", "impersonate"] {
            if verbs.contains(&verb) {
                faults.push(format!("{verb} is granted"));
            }
        }
        if cluster_wide && resources.contains(&"secrets") {
            for verb in ["list", "watch", "deletecollection"] {
                if verbs.contains(&verb) {
                    faults.push(format!("{verb} of Secrets everywhere"));
                }
            }
        }
        for resource in ["serviceaccounts/token", "pods/exec", "nodes/proxy", "roles", "clusterroles", "rolebindings"] {
            if resources.contains(&resource) {
                faults.push(format!("{resource} is granted"));
            }
        }
        if resources.contains(&"namespaces") && (verbs != ["get"] || texts(&rule["resourceNames"]) != ["kube-system"]) {
            faults.push("namespaces other than kube-system".to_owned());
        }
    }
    faults
}

#[test]
fn no_role_is_too_broad() {
    for (variant, objects) in variants() {
        for role in of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role")) {
            assert_eq!(faults(role), Vec::<String>::new(), "{} ({variant})", role["metadata"]["name"]);
        }
    }
}

#[test]
fn a_role_that_is_too_broad_is_found() {
    let role = |kind: &str, rule: Value| serde_json::json!({ "kind": kind, "rules": [rule] });
    for (kind, rule, fault) in [
        ("Role", serde_json::json!({ "resources": ["pods"], "verbs": ["*"] }), "wildcard in verbs"),
        ("Role", serde_json::json!({ "resources": ["roles"], "verbs": ["get"] }), "roles is granted"),
        (
            "ClusterRole",
            serde_json::json!({ "resources": ["secrets"], "verbs": ["list"] }),
            "list of Secrets everywhere",
        ),
        ("Role", serde_json::json!({ "resources": ["x"], "verbs": ["impersonate"] }), "impersonate is granted"),
    ] {
        assert_eq!(faults(&role(kind, rule)), [fault]);
    }
}

#[test]
fn a_scoped_installation_has_no_permission_outside_its_namespaces() {
    let scoped = variants().into_iter().find(|(variant, _)| *variant == "scoped").unwrap().1;
    assert_eq!(of_kind(&scoped, "ClusterRoleBinding"), Vec::<&Value>::new());
    let mut places: Vec<_> = of_kind(&scoped, "RoleBinding")
        .into_iter()
        .map(|binding| binding["metadata"]["namespace"].as_str().unwrap())
        .collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places, ["a", "agent-tenancy-registry", "b", "system"]);
}

/// An operator that counts replicas by their Leases reads no Pods.
#[test]
fn pods_are_read_only_where_replicas_are_pods() {
    let reads_pods = |args: &[&str]| {
        let objects = render(args);
        let role = find(&objects, "Role", "demo-agent-tenancy-operator");
        role["rules"].as_array().unwrap().iter().any(|rule| texts(&rule["resources"]).contains(&"pods"))
    };
    assert!(reads_pods(&[]));
    assert!(!reads_pods(&["--set", "agentApi.enabled=false"]));
    assert!(!reads_pods(&["--set", "operator.config.agentApi.replicaSource=Leases"]));
}

#[test]
fn every_binding_leads_to_a_role_and_an_account_of_this_release() {
    for (variant, objects) in variants() {
        for (kind, bindings) in [("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")] {
            for binding in of_kind(&objects, bindings) {
                let namespace = &binding["metadata"]["namespace"];
                assert!(
                    of_kind(&objects, kind).iter().any(|role| role["metadata"]["name"] == binding["roleRef"]["name"]
                        && &role["metadata"]["namespace"] == namespace),
                    "{variant}: {binding}"
                );
                let subject = &binding["subjects"][0];
                assert_eq!(subject["namespace"], "system");
                let accounts = of_kind(&objects, "ServiceAccount");
                assert!(accounts.iter().any(|account| account["metadata"]["name"] == subject["name"]), "{variant}");
            }
        }
    }
}

#[test]
fn users_who_may_edit_may_not_write_status() {
    let (_, objects) = variants().swap_remove(0);
    for role in of_kind(&objects, "ClusterRole") {
        if role["metadata"]["labels"].get("rbac.authorization.k8s.io/aggregate-to-edit").is_none() {
            continue;
        }
        for rule in role["rules"].as_array().unwrap() {
            let reads_only = texts(&rule["verbs"]).iter().all(|verb| ["get", "list", "watch"].contains(verb));
            assert!(reads_only || texts(&rule["resources"]).iter().all(|resource| !resource.contains('/')), "{rule}");
        }
    }
}
