//! Rendered Pods keep to the "restricted" Pod Security Standard and to what the programs need.

use super::support::{of_kind, variants};
use serde_json::{Value, json};

/// Violations of the standard, and of the chart's own rules for Pods.
fn faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            faults.push(rule.to_owned());
        }
    };
    for key in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        must(pod.get(key).is_none_or(|value| value == false), key);
    }
    let security = &pod["securityContext"];
    must(security["runAsNonRoot"] == true, "runAsNonRoot");
    must(security["runAsUser"].as_i64().is_some_and(|uid| uid > 0), "runAsUser is numeric and not 0");
    must(security["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    must(pod["enableServiceLinks"] == false, "enableServiceLinks");
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let allowed = ["configMap", "secret", "projected", "emptyDir", "downwardAPI", "csi", "persistentVolumeClaim"];
        must(allowed.iter().any(|kind| volume.get(kind).is_some()), "volume types");
    }
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        must(security["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        must(security["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        must(security["capabilities"] == json!({ "drop": ["ALL"] }), "capabilities");
        must(security["privileged"] != true, "privileged");
        must(container["ports"].as_array().unwrap().iter().all(|port| port.get("hostPort").is_none()), "hostPort");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")] {
            must(container[probe]["httpGet"]["path"] == path, probe);
        }
        must(container["resources"]["requests"]["memory"].is_string(), "requests");
        must(container["resources"]["limits"]["memory"].is_string(), "limits");
        let env = container["env"].as_array().unwrap();
        must(env.iter().any(|variable| variable["name"] == "POD_NAMESPACE"), "POD_NAMESPACE");
        must(env.iter().all(|variable| variable["valueFrom"].get("secretKeyRef").is_none()), "secrets are files");
    }
    faults
}

#[test]
fn rendered_pods_are_restricted() {
    for (variant, objects) in variants() {
        for deployment in of_kind(&objects, "Deployment") {
            let found = faults(&deployment["spec"]["template"]["spec"]);
            assert_eq!(found, Vec::<String>::new(), "{} ({variant})", deployment["metadata"]["name"]);
        }
    }
}

#[test]
fn a_pod_that_is_not_restricted_is_caught() {
    let (_, objects) = variants().swap_remove(0);
    let good = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    for (path, value, rule) in [
        ("/securityContext/runAsUser", json!(0), "runAsUser is numeric and not 0"),
        ("/securityContext/seccompProfile/type", json!("Unconfined"), "seccompProfile"),
        ("/containers/0/securityContext/capabilities/drop", json!([]), "capabilities"),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "allowPrivilegeEscalation"),
        ("/volumes/0", json!({ "name": "host", "hostPath": { "path": "/" } }), "volume types"),
    ] {
        let mut pod = good.clone();
        *pod.pointer_mut(path).unwrap() = value;
        assert_eq!(faults(&pod), [rule]);
    }
}

#[test]
fn the_password_is_a_file_that_only_the_operator_mounts() {
    let (_, objects) = variants().swap_remove(0);
    for deployment in of_kind(&objects, "Deployment") {
        let mounts_it = deployment.to_string().contains("operator-database");
        let is_operator = deployment["metadata"]["name"] == "demo-agent-tenancy-operator";
        assert_eq!(mounts_it, is_operator);
    }
}
